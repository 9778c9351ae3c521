"""Effect of repeats: what averaging two or three trials of an image gains over a single one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from brainit_eval.records.numbers import real
from brainit_eval.statistics.bootstrap import bootstrap_mean, draw_weights, percentile_interval

Scores = Mapping[str, ArrayLike]
"""Per subject ``[choices, n]``: scores of each choice of repeats, of each image."""


@dataclass(frozen=True)
class RepeatEffect:
    """Score with so many repeats averaged.

    Attributes:
        repeats: Trials averaged.
        value: Mean over subjects, images and choices of trials.
        low: Lower end of its 95 % interval over images.
        high: Upper end.
        gain: Difference from single trials.
        gain_low: Lower end of its 95 % interval: the resamples are paired.
        gain_high: Upper end.
    """

    repeats: int
    value: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float


def averages(trials: ArrayLike, size: int) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Averages of every choice of ``size`` repeats; each trial counts as often as any other.

    Args:
        trials: ``[images, repeats, ...]`` responses.
        size: Trials to average, from 1 to the number of repeats.

    Yields:
        Which repeats, and their mean ``[images, ...]`` float64.

    Raises:
        ValueError: If there are not so many repeats, or a response is not finite.
    """
    values = real(trials, "trials")
    repeats = values.shape[1] if values.ndim > 1 else 0
    if not 1 <= size <= repeats:
        raise ValueError(f"size: expected 1 to {repeats} repeats, got {size}")
    for choice in combinations(range(repeats), size):
        yield choice, values[:, list(choice)].mean(1)


def effect_of_repeats(
    scores: Mapping[int, Scores],
    image_ids: Mapping[str, ArrayLike],
    *,
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> list[RepeatEffect]:
    """Scores by number of repeats with intervals, and what they gain over a single trial.

    Args:
        scores: Number of repeats averaged to scores; 1 must be among them.
        image_ids: Per subject ``[n]`` ids, the same for all numbers.
        n_bootstrap: Resamples of images.
        seed: Seed.

    Returns:
        One entry a number of repeats, in rising order.

    Raises:
        ValueError: If single trials are missing, or subjects or shapes do not fit.
    """
    if 1 not in scores:
        raise ValueError("scores: expected those of single trials (1) among them")
    ids = {name: np.asarray(values) for name, values in image_ids.items()}
    weights = draw_weights(ids, n_bootstrap, seed)
    found = {}
    for number in sorted(scores):
        if set(scores[number]) != set(ids):
            raise ValueError(f"scores of {number} repeats: expected subjects {', '.join(ids)}")
        rows = {name: _per_image(scores[number][name], len(ids[name]), name) for name in ids}
        draws = np.mean([bootstrap_mean(rows[name], weights[name]) for name in ids], axis=0)
        found[number] = float(np.mean([row.mean() for row in rows.values()])), draws
    value, draws = found[1]
    return [
        RepeatEffect(
            number,
            mean,
            *percentile_interval(samples),
            mean - value,
            *percentile_interval(samples - draws),
        )
        for number, (mean, samples) in found.items()
    ]


def _per_image(values: ArrayLike, n: int, name: str) -> np.ndarray:
    table = real(values, name)
    if table.ndim != 2 or not table.size or table.shape[1] != n:
        raise ValueError(f"{name}: expected [choices, {n}] scores, got {list(table.shape)}")
    result: np.ndarray = table.mean(0)
    return result
