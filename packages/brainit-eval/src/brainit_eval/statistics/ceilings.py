"""How well anything can do: noise ceilings of responses, consistency of repeats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from brainit_eval.records.numbers import real

_T = TypeVar("_T")


def ncsnr(trials: ArrayLike, image_ids: ArrayLike) -> np.ndarray:
    """Noise-ceiling signal-to-noise ratio of each voxel (NSD, Allen et al. 2022).

    The noise variance is that of an image's repeats (unbiased, pooled by degrees of freedom), the
    signal variance what remains of that of all trials, at least 0; the ratio is of their roots.

    Args:
        trials: ``[trials, V]`` single-trial responses.
        image_ids: ``[trials]`` the image of each.

    Returns:
        ``[V]`` float64, 0 and more; infinite without noise.

    Raises:
        ValueError: If shapes do not fit, a value is not finite, or no image was repeated.
    """
    values, rows = _trials(trials, image_ids)
    counts = np.bincount(rows)
    if counts.max() < 2:
        raise ValueError("trials: expected an image with 2 repeats or more")
    means = np.zeros((len(counts), values.shape[1]))
    np.add.at(means, rows, values)
    means /= counts[:, None]
    noise = ((values - means[rows]) ** 2).sum(0) / (counts - 1).sum()
    signal = np.maximum(values.var(0) - noise, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(signal > 0, np.sqrt(signal / noise), 0.0)


def noise_ceiling(ratio: ArrayLike, counts: ArrayLike) -> np.ndarray:
    """Share of the variance of averaged responses that is signal (NSD, Allen et al. 2022).

    Args:
        ratio: ``[V]`` ncsnr.
        counts: ``[images]`` trials averaged for each image.

    Returns:
        ``[V]`` in [0, 1], on the scale of R^2; its root is a correlation.

    Raises:
        ValueError: If a ratio is negative or NaN, or a count below 1.
    """
    ratios, numbers = real(ratio, "ncsnr", finite=False), real(counts, "counts")
    if not (ratios >= 0).all():
        raise ValueError("ncsnr: expected values of 0 and more")
    if not numbers.size or (numbers < 1).any():
        raise ValueError("counts: expected 1 trial or more for every image")
    with np.errstate(divide="ignore"):
        result: np.ndarray = 1 / (1 + np.mean(1 / numbers) / ratios**2)
    return result


def spearman_brown(reliability: ArrayLike, times: ArrayLike) -> np.ndarray:
    """Reliability of the mean of so many measurements, from that of one."""
    r, k = real(reliability, "reliability"), real(times, "times")
    result: np.ndarray = k * r / (1 + (k - 1) * r)
    return result


def split_half(
    trials: ArrayLike, image_ids: ArrayLike, *, n_splits: int = 100, seed: int = 0
) -> np.ndarray:
    """Reliability of each voxel's averaged responses: halves of the repeats are correlated.

    Every image's repeats are split at random into halves of equal size (one of an odd number is
    left out), averaged, correlated over images; the mean over splits is stepped up to both
    halves by Spearman and Brown's formula.

    Args:
        trials: ``[trials, V]``.
        image_ids: ``[trials]``; images seen once are left out.
        n_splits: Random splits.
        seed: Seed.

    Returns:
        ``[V]`` float64, on the scale of R^2; 0 where a voxel does not vary.

    Raises:
        ValueError: If shapes do not fit, a value is not finite, or fewer than 3 images were
            repeated.
    """
    values, rows = _trials(trials, image_ids)
    groups = [np.flatnonzero(rows == row) for row in range(rows.max() + 1)]
    groups = [group for group in groups if len(group) > 1]
    if len(groups) < 3:
        raise ValueError(f"trials: expected 3 repeated images or more, got {len(groups)}")
    generator = np.random.default_rng(seed)
    total = np.zeros(values.shape[1])
    for _ in range(n_splits):
        halves = np.empty((2, len(groups), values.shape[1]))
        for place, group in enumerate(groups):
            drawn = generator.permutation(group)[: len(group) // 2 * 2].reshape(2, -1)
            halves[:, place] = values[drawn].mean(1)
        first, second = halves - halves.mean(1, keepdims=True)
        lengths = np.sqrt((first**2).sum(0) * (second**2).sum(0))
        total += np.where(lengths > 0, (first * second).sum(0) / np.maximum(lengths, 1e-300), 0)
    return spearman_brown(total / n_splits, 2)


def consistency(sets: Sequence[_T], score: Callable[[_T, _T], ArrayLike]) -> np.ndarray:
    """Ceiling of an image metric: reconstructions of one repeat scored against another's.

    Args:
        sets: Reconstructions of the same images from different repeats, two or more.
        score: Function of reconstructions and "true" images to ``[n]`` scores, such as
            ``lambda a, b: pixcorr(a, b)`` or ``lambda a, b: two_way(f(a), f(b)).per_image``.

    Returns:
        ``[n]`` mean over all ordered pairs of repeats.

    Raises:
        ValueError: If there are fewer than two sets, or a score is not finite.
    """
    if len(sets) < 2:
        raise ValueError(f"sets: expected 2 repeats or more, got {len(sets)}")
    scores = [real(score(a, b), "scores") for a, b in permutations(sets, 2)]
    result: np.ndarray = real(scores, "scores").mean(0)
    return result


def _trials(trials: ArrayLike, image_ids: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Responses in float64 and the number of each trial's image."""
    values, ids = real(trials, "trials"), np.asarray(image_ids)
    if values.ndim != 2 or not values.size or ids.shape != values.shape[:1]:
        shapes = f"{list(values.shape)} and {list(ids.shape)}"
        raise ValueError(f"trials: expected [trials, V] and [trials] ids, got {shapes}")
    return values, np.unique(ids, return_inverse=True)[1]
