"""Bootstrap 95 % percentile intervals over images, for a mean over subjects.

The subjects are taken as they are (four are too few to resample); the images are a sample.
Where all subjects were tested on the same images, as in NSD, the images are resampled jointly:
one draw holds for every subject. A hard image is hard for all of them, so drawing for each
subject on its own would average that variance away and give intervals that are too narrow.
Otherwise images are drawn within each subject independently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from brainit_eval.records.numbers import real


def draw_weights(
    image_ids: Mapping[str, ArrayLike], n_bootstrap: int, seed: int
) -> dict[str, np.ndarray]:
    """How often each image occurs in each bootstrap resample.

    Args:
        image_ids: Per subject the ids of its images, ``[n]``, each once.
        n_bootstrap: Number of resamples, B.
        seed: Seed; the same ids and seed give the same draws whatever is scored.

    Returns:
        Per subject ``[B, n]`` float64 multinomial counts that sum to ``n``.

    Raises:
        ValueError: If ids repeat, no subject is given, or ``n_bootstrap`` is below 1.
    """
    ids = {subject: np.asarray(values) for subject, values in image_ids.items()}
    if not ids or n_bootstrap < 1:
        raise ValueError(
            f"bootstrap: expected subjects and draws, got {len(ids)} and {n_bootstrap}"
        )
    for subject, values in ids.items():
        if values.ndim != 1 or not values.size or len(np.unique(values)) != values.size:
            raise ValueError(f"{subject}: expected one list of image ids, each once")
    generator = np.random.default_rng(seed)
    pools = [np.sort(values) for values in ids.values()]
    if all(np.array_equal(pool, pools[0]) for pool in pools):
        joint = _multinomial(len(pools[0]), n_bootstrap, generator)
        return {name: joint[:, np.searchsorted(pools[0], values)] for name, values in ids.items()}
    return {name: _multinomial(len(values), n_bootstrap, generator) for name, values in ids.items()}


def bootstrap_mean(values: ArrayLike, weights: np.ndarray) -> np.ndarray:
    """Mean of a per-image score in every resample.

    Args:
        values: ``[n]``.
        weights: ``[B, n]`` from `draw_weights`.

    Returns:
        ``[B]`` float64.

    Raises:
        TypeError: If values are no real numbers.
        ValueError: If there are not as many as weights, or one is not finite.
    """
    scores = real(values, "values")
    _check_fit(scores.shape, weights.shape[1:], "values")
    result: np.ndarray = weights @ scores / weights.sum(1)
    return result


def bootstrap_two_way(
    success: np.ndarray, weights: np.ndarray, among: np.ndarray | None = None
) -> np.ndarray:
    """Two-way identification in every resample, with no image as its own distractor.

    Resampling images changes both the reconstructions and the distractors. With counts ``w`` and
    the success matrix ``S`` the score of a resample is w'Sw / sum_j w_j (N - w_j), which is what
    resampling explicitly gives when pairs of the same image are left out.

    Args:
        success: ``[n, n]`` bool from `two_way`.
        weights: ``[B, n]`` from `draw_weights`.
        among: ``[n, n]`` bool, the comparisons that count, none of the diagonal; None counts all
            others.

    Returns:
        ``[B]`` float64; NaN where a resample holds none of them, as one of a single image does.

    Raises:
        TypeError: If comparisons are no bools.
        ValueError: If there are not as many images as weights.
    """
    _check_comparisons(success, weights, "success")
    if among is None:
        wins = _times(success, weights)
        pairs = (weights * (weights.sum(1, keepdims=True) - weights)).sum(1)
    else:
        _check_comparisons(among, weights, "among")
        wins, pairs = _times(success & among, weights), _times(among, weights)
    return np.where(pairs > 0, wins / np.maximum(pairs, 1), np.nan)


def percentile_interval(
    samples: Sequence[np.ndarray] | np.ndarray, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean over subjects.

    Args:
        samples: ``[subjects, B]``: one row of bootstrap values per subject.
        level: Share of resamples inside.

    Returns:
        Lower and upper end; both NaN if no resample has a finite mean.

    Raises:
        TypeError: If samples are no real numbers.
    """
    means = np.mean(np.atleast_2d(real(samples, "samples", finite=False)), axis=0)
    means = means[np.isfinite(means)]
    if means.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _check_fit(shape: tuple[int, ...], expected: tuple[int, ...], name: str) -> None:
    if shape != expected:
        raise ValueError(f"{name}: expected {list(expected)} as the weights, got {list(shape)}")


def _check_comparisons(comparisons: np.ndarray, weights: np.ndarray, name: str) -> None:
    if not isinstance(comparisons, np.ndarray) or comparisons.dtype != np.bool_:
        raise TypeError(f"{name}: expected an array of bools")
    _check_fit(comparisons.shape, weights.shape[1:] * 2, name)


def _times(comparisons: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Number of such comparisons in every resample, ``[B]``."""
    result: np.ndarray = ((weights @ comparisons.astype(np.float64)) * weights).sum(1)
    return result


def _multinomial(n: int, draws: int, generator: np.random.Generator) -> np.ndarray:
    return generator.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)
