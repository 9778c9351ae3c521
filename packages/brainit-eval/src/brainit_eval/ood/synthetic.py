"""NSD-synthetic: 284 artificial images (Gifford et al., doi 10.1038/s41467-026-69345-9).

Rules: the stimuli, 714 x 1360 px, become square in a stated way; scores stand by class; metrics of
what is seen (networks of objects and scenes) only for the classes made from scenes, since noise,
gratings and words have no such content; scores are put between a floor and a ceiling before they
are held against those of natural images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from brainit_eval.ood.groups import GroupScore, group_scores, subject_ids
from brainit_eval.records.fields import read_csv
from brainit_eval.records.labels import shown
from brainit_eval.records.result import Result

CLASSES = {
    "Natural scenes": 8,
    "Manipulated scenes": 12,
    "Contrast modulation": 16,
    "Phase-coherence modulation": 16,
    "Noise": 16,
    "Single words": 40,
    "Spiral gratings": 112,
    "Chromatic noise": 64,
}
"""Class to its number of images."""
SCENES = tuple(CLASSES)[:4]
"""Classes made from scenes: 52 images."""
N_COMMON, N_OWN = 220, 64
"""Images that all subjects saw, and that each saw in colours of its own."""
LOW_LEVEL = ("", "alexnet", "lpips")
"""Networks whose metrics say something about any image; none stands for pixels."""
SHAPE = (714, 1360, 3)

Fit = Literal["crop", "pad"]


def as_seen(stimulus: np.ndarray, fit: Fit) -> np.ndarray:
    """A stimulus as a square picture.

    The stimulus file holds light intensities: the root gives the picture, as the authors' own
    analysis does before any network sees it (github.com/gifale95/NSD-synthetic).

    Args:
        stimulus: ``[714, 1360, 3]`` uint8, as stored.
        fit: "crop" keeps the middle 714 x 714 (the authors' choice) and loses what lies beside it,
            some of the words wholly; "pad" keeps all, on the colour of the top left pixel.

    Returns:
        ``[714, 714, 3]`` or ``[1360, 1360, 3]`` uint8.

    Raises:
        ValueError: If shape, type or ``fit`` is not as stated.
    """
    if fit not in get_args(Fit):
        raise ValueError(f"fit: expected one of {', '.join(get_args(Fit))}, got {fit!r}")
    if stimulus.shape != SHAPE or stimulus.dtype != np.uint8:
        got = f"{stimulus.dtype} {list(stimulus.shape)}"
        raise ValueError(f"stimulus: expected uint8 {list(SHAPE)}, got {got}")
    picture: np.ndarray = (np.sqrt(stimulus / 255) * 255).astype(np.uint8)
    height, width = SHAPE[:2]
    side = (width - height) // 2
    if fit == "crop":
        return picture[:, side : side + height]
    square = np.broadcast_to(picture[0, 0], (width, width, 3)).copy()
    square[side : side + height] = picture
    return square


def read_classes(path: str | Path) -> dict[str, str]:
    """Image id to class, from NSD's ``nsdsyntheticimageinformation.csv``.

    Ids are the images' numbers from 0; the 64 that are each subject's own are 220 to 283 for
    subject 1, 284 to 347 for subject 2 and so on.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the classes are not the published ones.
    """
    names = [row["Image class"] for row in read_csv(Path(path), ("Image class",))]
    counts = {name: names.count(name) for name in dict.fromkeys(names)}
    if counts != CLASSES:
        raise ValueError(
            f"{path}: expected the column 'Image class' with {CLASSES}, got {shown(counts)}"
        )
    return {str(k): name for k, name in enumerate(names[:N_COMMON] + 8 * names[N_COMMON:])}


@dataclass(frozen=True)
class ClassScore:
    """A metric on one class.

    Attributes:
        score: Mean over subjects with its interval.
        floor: The same metric without information from the brain; None if no control was given.
        ceiling: The most that could be reached; None if no such result was given.
    """

    score: GroupScore
    floor: float | None = None
    ceiling: float | None = None

    @property
    def share(self) -> float:
        """Where the score lies from floor (0) to ceiling (1); NaN where they are not known."""
        if self.floor is None or self.ceiling is None or self.floor == self.ceiling:
            return math.nan
        return (self.score.value - self.floor) / (self.ceiling - self.floor)


def score_classes(
    result: Result,
    classes: Mapping[str, str],
    floor: Result | None = None,
    ceiling: Result | None = None,
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> dict[str, dict[str, ClassScore]]:
    """Scores by class.

    Identification's distractors are all images of the result. Noise and words are easy distractors
    for a scene, so semantic metrics want a result of the 52 scenes alone (protocol
    ``nsd-synthetic-scenes``); all 284 are for protocol ``nsd-synthetic``.

    Args:
        result: Of reconstructions from NSD-synthetic: all 284 images of each subject, or the 52
            made from scenes.
        classes: From `read_classes`.
        floor: A control scored on the same images: shuffled brains, say.
        ceiling: What could be reached at most, scored on the same images: the true features
            through the generator, say.
        n_bootstrap: Draws of images.
        seed: Of the draws.

    Returns:
        Class, and "scenes" for the four of `SCENES` together, to its metrics. Semantic metrics
        stand only with classes made from scenes.

    Raises:
        ValueError: If a subject's images are not as stated, or floor or ceiling are of other
            images, subjects or another protocol.
    """
    groups = _groups(result, classes)
    bounds = []
    for name, other in (("floor", floor), ("ceiling", ceiling)):
        if other is not None and (other.test_set, other.protocol.hash, set(other.subjects)) != (
            result.test_set,
            result.protocol.hash,
            set(result.subjects),
        ):
            raise ValueError(f"{name}: expected the images, subjects and protocol of the result")
        bounds.append(group_scores(other, groups, 1, seed) if other is not None else None)
    semantic = _semantic(result)
    return {
        group: {
            metric: ClassScore(
                score, *(bound[group][metric].value if bound else None for bound in bounds)
            )
            for metric, score in scores.items()
            if group in ("scenes", *SCENES) or metric not in semantic
        }
        for group, scores in group_scores(result, groups, n_bootstrap, seed).items()
    }


def class_balanced_top1(
    success: np.ndarray, classes: Sequence[str], per_class: int = 8
) -> np.ndarray:
    """Exact chance of identifying each image among equally many of every class.

    Of each class ``per_class`` images are candidates, the true one among those of its own class:
    with eight classes of 8, 64-way. The published analysis draws candidates; this is what the
    draws converge to, by the hypergeometric chance that no candidate of any class beats the truth.

    Args:
        success: ``[n, n]`` bool from `two_way`: ``[i, j]`` is whether item ``j`` is closer to its
            own image than to image ``i``.
        classes: ``[n]`` class of each image; each has ``per_class`` or more.
        per_class: Candidates a class.

    Returns:
        ``[n]`` float64; chance is one over the number of candidates.

    Raises:
        ValueError: If shapes do not fit or a class is too small.
    """
    names = np.asarray(classes)
    n = len(names)
    if success.shape != (n, n) or per_class < 1:
        raise ValueError(f"success: expected [{n}, {n}] and per_class of 1 or more")
    top1 = np.ones(n)
    for name in np.unique(names):
        inside = names == name
        if inside.sum() < per_class:
            raise ValueError(f"class '{name}': expected {per_class} images or more")
        others = inside.sum() - inside  # the true image is no distractor of itself
        drawn = per_class - inside.astype(int)
        beaten = success[inside].sum(0)  # the diagonal is False
        for step in range(per_class):
            still = step < drawn
            chance = np.clip(beaten - step, 0, None) / np.maximum(others - step, 1)
            top1 *= np.where(still, chance, 1.0)
    return top1


def _groups(result: Result, classes: Mapping[str, str]) -> dict[str, list[str]]:
    scenes = {name: CLASSES[name] for name in SCENES}
    for subject in result.subjects:
        names = [classes.get(image_id, "unknown") for image_id in subject_ids(result, subject)]
        counts = {name: names.count(name) for name in dict.fromkeys(names)}
        if counts not in (CLASSES, scenes):
            raise ValueError(
                f"{result.method}: {subject}: expected the 284 images of NSD-synthetic or its 52 "
                f"scenes, got {len(names)}: {counts}"
            )
    groups = {name: [k for k, value in classes.items() if value == name] for name in counts}
    return groups | {"scenes": [image_id for name in SCENES for image_id in groups[name]]}


def _semantic(result: Result) -> set[str]:
    networks = {name: result.protocol.metric(name).get("network", "") for name in result.metrics}
    return {name for name, network in networks.items() if network not in LOW_LEVEL}
