"""Scores per image of the runs that are compared: means, differences and shares, with intervals.

Intervals are 95 % bootstraps that draw images, jointly for all subjects who saw them and for both
runs of a comparison, and repetitions where there are several. They speak of other images for these
subjects. With subjects drawn as well they speak of other people, for whom four are few.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from brainit.run_folder import RunFolder
from brainit_eval.statistics import hierarchical_mean, holm, sign_flip_test, subject_test
from brainit_eval.statistics.bootstrap import percentile_interval

Floats = NDArray[np.float64]
LATE, CHANCE = "two_way_late", 0.5
COMPARED = {"late features": LATE, "CLIP": "two_way_clip"}
"""What runs are compared by, in words: two networks' views of what an image shows."""
DRAWS, SEED = 2000, 0
_IMAGES = ("images", "samples")
_PEOPLE = ("subjects", *_IMAGES)


@dataclass(frozen=True, eq=False)
class ImageScores:
    """One score of each image.

    Attributes:
        values: Subject -> float64 [repetitions, n]: draws of trials, or seeds of a training.
        ids: Subject -> int64 [n] image ids.
    """

    values: dict[str, Floats]
    ids: dict[str, NDArray[np.int64]]

    def of_images(self) -> dict[str, Floats]:
        """Mean over repetitions: subject -> [n]."""
        return {name: table.mean(0) for name, table in self.values.items()}

    def of_subjects(self) -> dict[str, float]:
        """Mean over repetitions and images."""
        return {name: float(table.mean()) for name, table in self.values.items()}

    def only(self, subjects: Sequence[str]) -> ImageScores:
        """Scores of some subjects."""
        return ImageScores(
            {name: self.values[name] for name in subjects},
            {name: self.ids[name] for name in subjects},
        )


@dataclass(frozen=True)
class Estimate:
    """A value with its interval over images, and with subjects drawn as well."""

    value: float
    low: float
    high: float
    low_subjects: float
    high_subjects: float

    def __str__(self) -> str:
        """As in a table: value [low, high]."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Difference(Estimate):
    """A paired difference; p by sign flips over images, and over subjects."""

    p: float
    p_subjects: float

    @property
    def verdict(self) -> str:
        """What the interval over images says."""
        if self.low > 0:
            return "higher"
        return "lower" if self.high < 0 else "unclear, the interval holds 0"

    def __str__(self) -> str:
        """As in a table: signed, with p over images."""
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}], p = {self.p:.2g}"


def read(run: RunFolder, method: str = "fused", metric: str = LATE) -> ImageScores:
    """Scores of a finished run's test images."""
    with run.output("evaluate", "per_image").open() as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == method]
    times = sorted({int(row["repetition"]) for row in rows})
    parts = [_columns([r for r in rows if int(r["repetition"]) == time], metric) for time in times]
    return repetitions(parts)


def _columns(rows: Sequence[Mapping[str, str]], metric: str) -> ImageScores:
    values: dict[str, list[float]] = {}
    ids: dict[str, list[int]] = {}
    for row in rows:
        values.setdefault(row["subject"], []).append(float(row[metric]))
        ids.setdefault(row["subject"], []).append(int(row["image_id"]))
    return ImageScores(
        {name: np.array([column]) for name, column in values.items()},
        {name: np.array(column) for name, column in ids.items()},
    )


def repetitions(parts: Sequence[ImageScores]) -> ImageScores:
    """The same images scored several times.

    Raises:
        ValueError: They are not the same images.
    """
    first = parts[0]
    for part in parts[1:]:
        if {k: v.tolist() for k, v in part.ids.items()} != {
            k: v.tolist() for k, v in first.ids.items()
        }:
            raise ValueError("repetitions: expected scores of the same images of each subject")
    values = {name: np.concatenate([p.values[name] for p in parts]) for name in first.values}
    return ImageScores(values, first.ids)


def together(parts: Mapping[str, ImageScores]) -> ImageScores:
    """Subjects of several runs as one set; a name that occurs twice gets its run's in front."""
    names = [name for part in parts.values() for name in part.values]
    values, ids = {}, {}
    for label, part in parts.items():
        for name in part.values:
            key = name if names.count(name) == 1 else f"{label} {name}"
            values[key], ids[key] = part.values[name], part.ids[name]
    return ImageScores(values, ids)


def mean(scores: ImageScores) -> Estimate:
    """Mean over subjects."""
    value = float(np.mean(list(scores.of_subjects().values())))
    return _estimate(value, *(_draws(scores, levels) for levels in (_IMAGES, _PEOPLE)))


def difference(one: ImageScores, other: ImageScores) -> Difference:
    """What one run scores above another on the same images.

    Raises:
        ValueError: They are not of the same images.
    """
    if {k: v.tolist() for k, v in one.ids.items()} != {k: v.tolist() for k, v in other.ids.items()}:
        raise ValueError("difference: expected scores of the same images of each subject")
    gaps = {name: row - other.of_images()[name] for name, row in one.of_images().items()}
    found = _estimate(
        float(np.mean([gap.mean() for gap in gaps.values()])),
        *(_draws(one, levels) - _draws(other, levels) for levels in (_IMAGES, _PEOPLE)),
    )
    over_subjects = subject_test([gap.mean() for gap in gaps.values()])
    p = sign_flip_test(gaps, one.ids, seed=SEED).p
    return Difference(**asdict(found), p=p, p_subjects=over_subjects.p)


def share(part: ImageScores, whole: ImageScores, chance: float = CHANCE) -> Estimate:
    """What a run reaches above chance, as a share of what another reaches on the same images."""
    over = [(_draws(part, lv) - chance, _draws(whole, lv) - chance) for lv in (_IMAGES, _PEOPLE)]
    value = (mean(part).value - chance) / (mean(whole).value - chance)
    return _estimate(value, *(upper / lower for upper, lower in over))


def corrected(tests: Mapping[str, Difference]) -> dict[str, float]:
    """Holm's p over all comparisons of an experiment."""
    return holm({name: test.p for name, test in tests.items()})


def _draws(scores: ImageScores, levels: tuple[str, ...]) -> Floats:
    draws: Floats = hierarchical_mean(
        scores.values, scores.ids, levels=levels, n_bootstrap=DRAWS, seed=SEED
    )
    return draws


def _estimate(value: float, over_images: Floats, over_people: Floats) -> Estimate:
    return Estimate(value, *percentile_interval(over_images), *percentile_interval(over_people))
