"""Scores of groups of images: classes of stimuli, sets of stimuli."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from brainit_eval.records.result import Result
from brainit_eval.statistics.bootstrap import bootstrap_mean, draw_weights, percentile_interval


@dataclass(frozen=True)
class GroupScore:
    """A metric over a group of images: mean over subjects, 95 % interval, images a subject."""

    value: float
    low: float
    high: float
    n_images: int


def group_scores(
    result: Result,
    groups: Mapping[str, Collection[str]],
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> dict[str, dict[str, GroupScore]]:
    """Scores of groups of images, from a result's table.

    An image's samples are averaged first. Identification keeps all images of the result as
    distractors; the interval draws the images that are identified, not the distractors.

    Args:
        result: The result.
        groups: Name of the group to the ids of its images; each subject needs some of them.
        n_bootstrap: Draws of images.
        seed: Of the draws.

    Returns:
        Group, then metric, to its score; a group of one image has the interval NaN.

    Raises:
        ValueError: If a subject has no image of a group.
    """
    return {
        name: _group(result, name, frozenset(ids), n_bootstrap, seed)
        for name, ids in groups.items()
    }


def subject_ids(result: Result, subject: str) -> tuple[str, ...]:
    """Ids of a subject's images, in the order of the result's table."""
    rows = result.per_image.rows(subject, 0)
    return tuple(result.per_image.image_id[rows].tolist())


def _group(
    result: Result, name: str, wanted: frozenset[str], n_bootstrap: int, seed: int
) -> dict[str, GroupScore]:
    ids: dict[str, np.ndarray] = {}
    values: dict[str, dict[str, np.ndarray]] = {}
    for subject in result.subjects:
        every, means = result.per_image.by_image(subject)
        inside = np.isin(every, list(wanted))
        if not inside.any():
            raise ValueError(f"{result.method}: {subject} has no image of the group {name!r}")
        ids[subject] = every[inside]
        values[subject] = {metric: column[inside] for metric, column in means.items()}
    weights = draw_weights(ids, n_bootstrap, seed)
    n_images = max(map(len, ids.values()))
    scores = {}
    for metric in result.metrics:
        draws = [bootstrap_mean(values[s][metric], weights[s]) for s in result.subjects]
        low, high = percentile_interval(draws) if n_images > 1 else (math.nan, math.nan)
        mean = float(np.mean([values[s][metric].mean() for s in result.subjects]))
        scores[metric] = GroupScore(mean, low, high, n_images)
    return scores
