"""What the answers to a human study say: shares with intervals, and who was left out and why.

The interval is a bootstrap clustered over raters and over images: a rater answers many trials and
an image is shown to many raters, so that answers are not independent and a binomial interval or
p-value would claim too much. Raters and images are drawn separately; the two deviations add up,
and the scatter of single answers, which both draws contain, is taken off once (the two-way
variance of Cameron, Gelbach and Miller, doi 10.1198/jbes.2010.07136).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from brainit_eval.human.key import SCHEMA, Key
from brainit_eval.human.trials import CATCH, Trial
from brainit_eval.records.fields import Fields, read_json
from brainit_eval.records.labels import check_label
from brainit_eval.records.writing import write_text

CATCH_SHARE = 0.8
RULE = (
    "a rater counts if at least 80 % of the catch trials on the pages they sent were answered "
    "right; a catch trial without an answer counts as wrong"
)


@dataclass(frozen=True)
class Rater:
    """One rater: catch trials on the pages they sent, and how many were answered right."""

    name: str
    catch_right: int
    catch_shown: int

    @property
    def kept(self) -> bool:
        """Whether `RULE` lets them count."""
        return self.catch_right >= CATCH_SHARE * self.catch_shown


@dataclass(frozen=True)
class Preference:
    """How often the first candidate was chosen.

    Attributes:
        comparison: What was compared.
        subject: Whose brain; None for all together.
        share: Share of answers for the first candidate, in [0, 1]; chance is 0.5.
        low: Lower end of the 95 % interval.
        high: Upper end.
        n_answers: Answers that count.
        n_raters: Raters that they come from.
        n_images: Images that they are about.
    """

    comparison: str
    subject: str | None
    share: float
    low: float
    high: float
    n_answers: int
    n_raters: int
    n_images: int


@dataclass(frozen=True)
class HumanResult:
    """The whole analysis.

    Attributes:
        raters: All who sent answers; those not `kept` are in no number below.
        preferences: Every comparison, over all subjects and for each.
        left_share: Share of answers "left"; far from 0.5 is a habit of the raters. As half of the
            first candidates stand on the left, it moves no preference away from 0.5.
    """

    raters: tuple[Rater, ...]
    preferences: tuple[Preference, ...]
    left_share: float

    def write(self, path: Path) -> None:
        """Write it as JSON; NaN becomes null."""
        raters = [asdict(rater) | {"kept": rater.kept} for rater in self.raters]
        preferences = [
            {k: None if v != v else v for k, v in asdict(preference).items()}
            for preference in self.preferences
        ]
        record = {
            "rule": RULE,
            "raters": raters,
            "preferences": preferences,
            "left_share": self.left_share,
        }
        write_text(path, json.dumps(record, indent=1, allow_nan=False) + "\n")


@dataclass(frozen=True)
class _Answer:
    rater: str
    trial: Trial
    side: str

    @property
    def first(self) -> bool:
        return self.side == self.trial.side


def analyse(
    answer_files: Sequence[str | Path],
    key_file: str | Path,
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> HumanResult:
    """Analyse the answers to a study.

    Args:
        answer_files: What the raters saved, one file a rater and page.
        key_file: The study's ``key.json``.
        n_bootstrap: Draws of raters and of images.
        seed: Of the draws.

    Raises:
        ValueError: If a file is not as the page writes it, belongs to another study, or two hold
            the same rater's answers to the same page; or if no rater is kept.
    """
    key = Key.read(key_file)
    answers: list[_Answer] = []
    pages: dict[tuple[str, int], Path] = {}
    for path in map(Path, answer_files):
        rater, page, given = _answers(path, key)
        if (rater, page) in pages:
            raise ValueError(f"{path}: rater {rater}, page {page} is also in {pages[rater, page]}")
        pages[rater, page] = path
        answers += given
    raters = tuple(_raters(answers, pages, key))
    names = {rater.name for rater in raters if rater.kept}
    counted = [a for a in answers if a.rater in names and a.trial.comparison != CATCH]
    if not counted:
        raise ValueError(f"no answers left of {len(raters)} raters; {RULE}")
    preferences = tuple(_preferences(counted, n_bootstrap, seed))
    return HumanResult(raters, preferences, float(np.mean([a.side == "left" for a in counted])))


def preference_interval(
    chosen: np.ndarray, raters: np.ndarray, images: np.ndarray, n_bootstrap: int, seed: int
) -> tuple[float, float]:
    """95 % interval of a share, clustered over raters and over images.

    Args:
        chosen: ``[n]`` bool: was the first candidate chosen?
        raters: ``[n]`` whose answer it is.
        images: ``[n]`` which image it is about.
        n_bootstrap: Draws.
        seed: Of the draws.

    Returns:
        Both ends, in [0, 1]. If all answers agree there is nothing to draw from; the open end is
        then the exact bound for that many raters who each count as one answer. NaN if there are
        fewer than two raters or two images, or too few answers to tell.
    """
    draw = np.random.default_rng(seed)
    share = float(chosen.mean())
    n_raters, n_images = len(np.unique(raters)), len(np.unique(images))
    if min(n_raters, n_images) < 2:
        return float("nan"), float("nan")
    if share in (0.0, 1.0):
        bound = 0.025 ** (1 / n_raters)
        return (bound, 1.0) if share else (0.0, 1 - bound)
    by_rater = _draws(chosen, raters, n_bootstrap, draw) - share
    by_image = _draws(chosen, images, n_bootstrap, draw) - share
    variances = by_rater.var(), by_image.var()
    if not sum(variances):  # too few answers for any draw to differ
        return float("nan"), float("nan")
    both = max(sum(variances) - share * (1 - share) / len(chosen), *variances)
    deviation = (by_rater + by_image) * np.sqrt(both / sum(variances))
    low, high = np.clip(share + np.quantile(deviation, [0.025, 0.975]), 0, 1)
    return float(low), float(high)


def _draws(
    chosen: np.ndarray, clusters: np.ndarray, n_bootstrap: int, draw: np.random.Generator
) -> np.ndarray:
    """The share in each draw of whole clusters, ``[B]``, widened for the number of clusters."""
    _, place = np.unique(clusters, return_inverse=True)
    total, wins = np.bincount(place), np.bincount(place, chosen)
    n = len(total)
    times = draw.multinomial(n, np.full(n, 1 / n), size=n_bootstrap)
    # An unbiased variance; and Student's t over the normal quantile, to first order in 1 / n.
    wider = np.sqrt(n / (n - 1)) * (1 + 1.21 / (n - 1))
    share = chosen.mean()
    result: np.ndarray = share + wider * (times @ wins / (times @ total) - share)
    return result


def _preferences(answers: Sequence[_Answer], n_bootstrap: int, seed: int) -> Iterator[Preference]:
    for comparison in dict.fromkeys(answer.trial.comparison for answer in answers):
        about = [answer for answer in answers if answer.trial.comparison == comparison]
        subjects = sorted({str(answer.trial.subject) for answer in about})
        for subject in [None, *(subjects if len(subjects) > 1 else [])]:
            part = [a for a in about if subject in (None, a.trial.subject)]
            chosen = np.array([answer.first for answer in part])
            raters = np.array([answer.rater for answer in part])
            images = np.array([answer.trial.image_id for answer in part])
            yield Preference(
                comparison,
                subject,
                float(chosen.mean()),
                *preference_interval(chosen, raters, images, n_bootstrap, seed),
                len(part),
                len(np.unique(raters)),
                len(np.unique(images)),
            )


def _raters(
    answers: Sequence[_Answer], pages: Collection[tuple[str, int]], key: Key
) -> Iterator[Rater]:
    for name in dict.fromkeys(rater for rater, _ in pages):
        sent = {page for rater, page in pages if rater == name}
        shown = sum(trial.page in sent and trial.comparison == CATCH for trial in key.trials)
        catch = [a for a in answers if a.rater == name and a.trial.comparison == CATCH]
        yield Rater(name, sum(answer.first for answer in catch), shown)


def _answers(path: Path, key: Key) -> tuple[str, int, list[_Answer]]:
    record = Fields(read_json(path), str(path))
    record.integer("schema", SCHEMA, SCHEMA)
    study, page = record.text("study"), record.integer("page", 1, 10**6)
    rater = check_label(record.text("rater"), f"{path}: rater")
    if study != key.study:
        raise ValueError(f"{path}: answers to study {study}, but the key is of {key.study}")
    trials = key.page(page)
    sides: dict[int, str] = {}
    for fields in record.tables("answers"):
        place = fields.integer("place", 0, len(trials) - 1)
        if place in sides:
            raise ValueError(f"{path}: place {place} is answered twice")
        sides[place] = fields.text("side", ("left", "right"))
        fields.number("ms")
        fields.close()
    record.close()
    return rater, page, [_Answer(rater, trials[place], side) for place, side in sides.items()]
