"""A result beside its pictures, and which of them a gallery shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from brainit_eval.leaderboard.board import metric_in
from brainit_eval.metrics.registry import Metric
from brainit_eval.pictures.sets import Pictures, match_ids, of_subject
from brainit_eval.records.result import Result
from brainit_eval.report.gallery import Gallery, GalleryRow, choose_rows
from brainit_eval.report.scores import number

ROWS = 7
"""Rows of the gallery: the best, the worst, the median and what lies evenly between."""

SEEN = "image seen"
"""Title of the first column; no subject has a name with a space."""

Sets = Mapping[str, Sequence[Pictures]]
Truth = Pictures | Mapping[str, Pictures]


@dataclass(frozen=True)
class Shown:
    """A result with its pictures.

    Attributes:
        result: The result.
        images: Per subject its reconstructions, first sample.
        seen: Per subject what it saw, same ids in the same order.
        metrics: The result's metrics by name.
        scores: Metric, then subject, to ``[n]`` means over samples in the order of the ids.
        by: Metric that orders the images.
    """

    result: Result
    images: Mapping[str, Pictures]
    seen: Mapping[str, Pictures]
    metrics: Mapping[str, Metric]
    scores: Mapping[str, Mapping[str, np.ndarray]]
    by: str

    @property
    def shared(self) -> bool:
        """Whether all subjects were tested on the same images."""
        return len({pictures.ids for pictures in self.seen.values()}) == 1


def with_pictures(result: Result, images: Sets, truth: Truth, by: str) -> Shown:
    """Put a result beside its pictures; arguments as for `result_report`.

    Raises:
        ValueError: If the pictures are not of the result's subjects, samples and images.
    """
    if set(images) != set(result.subjects):
        have, want = ", ".join(images), ", ".join(result.subjects)
        raise ValueError(f"images: expected the result's subjects {want}, got {have}")
    if {len(samples) for samples in images.values()} != {result.samples}:
        raise ValueError(f"images: expected {result.samples} samples of each, as in the result")
    first = {name: images[name][0] for name in result.subjects}
    seen = {name: of_subject(truth, name) for name in result.subjects}
    scores: dict[str, dict[str, np.ndarray]] = {name: {} for name in result.metrics}
    for subject, pictures in first.items():
        match_ids(pictures, seen[subject])
        ids, columns = result.per_image.by_image(subject)
        if set(ids) != set(pictures.ids):
            raise ValueError(f"{pictures.name}: expected the images of the result, got other ids")
        place = {image: k for k, image in enumerate(ids.tolist())}
        rows = [place[image] for image in pictures.ids]
        for name, values in columns.items():
            scores[name][subject] = values[rows]
    metrics = {name: metric_in(result, name) for name in result.metrics}
    return Shown(result, first, seen, metrics, scores, by)


def gallery(shown: Shown) -> tuple[list[tuple[str, str]], Gallery]:
    """Which images of which subjects are shown, and the gallery of them.

    Subjects who saw the same images stand side by side.

    Raises:
        ValueError: If there are fewer than 3 images.
    """
    metric, scores = shown.metrics[shown.by], shown.scores[shown.by]
    subjects = list(shown.images)
    side_by_side = shown.shared and len(subjects) > 1
    if side_by_side:
        keys = [(subjects, image) for image in shown.seen[subjects[0]].ids]
        values = np.mean(list(scores.values()), axis=0)
    else:
        keys = [([name], image) for name in subjects for image in shown.seen[name].ids]
        values = np.concatenate([scores[name] for name in subjects])
    n_rows = min(ROWS, (len(keys) - 1) // 2 * 2 + 1)
    if n_rows < 3:
        raise ValueError(f"images: expected 3 images or more for a gallery, got {len(keys)}")
    rows, order = [], []
    for place, label in choose_rows(values, n_rows, metric.higher_is_better):
        who, image = keys[place]
        order += [(name, image) for name in who]
        pictures = {SEEN: _picture(shown.seen[who[0]], image)}
        for name in who:
            column = name if side_by_side else "reconstruction"
            pictures[column] = _picture(shown.images[name], image)
        note = f"image {image}\n{metric.label} {number(float(values[place]), metric)}"
        rows.append(GalleryRow(label, pictures, note if side_by_side else f"{who[0]}, {note}"))
    columns = [SEEN, *(subjects if side_by_side else ["reconstruction"])]
    return order, Gallery(columns, rows, rule=_rule(shown, len(rows), len(keys), side_by_side))


def _rule(shown: Shown, n_rows: int, n_images: int, over_subjects: bool) -> str:
    metric = shown.metrics[shown.by]
    better = "highest" if metric.higher_is_better else "lowest"
    means = [f"{len(shown.images)} subjects"] if over_subjects else []
    means += [f"{shown.result.samples} samples"] if shown.result.samples > 1 else []
    of = f", mean over {' and '.join(means)}" if means else ""
    first = " Shown is the first sample of each." if shown.result.samples > 1 else ""
    return (
        f"Chosen by rule, not by hand: all {n_images} images in the order of {metric.label}{of}, "
        f"the {better} first; shown are {n_rows}, evenly spaced from the best to the worst, with "
        f"the median in the middle.{first}"
    )


def _picture(pictures: Pictures, image: str) -> np.ndarray:
    place = pictures.ids.index(image)
    values: np.ndarray = pictures.batch(range(place, place + 1))[0].numpy()
    return values
