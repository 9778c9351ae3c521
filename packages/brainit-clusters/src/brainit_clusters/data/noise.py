"""Noise ceilings: how much of a response a perfect model could explain."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def noise_ceiling(ncsnr: ArrayLike, repeats: ArrayLike) -> NDArray[np.float32]:
    """Share of the variance of averaged responses that is signal (NSD, Allen et al. 2022).

    ncsnr^2 / (ncsnr^2 + m), with m the mean of 1/n over the images, n the repeats that were
    averaged: with A, B, C images of 1, 2, 3 repeats m = (A/1 + B/2 + C/3) / (A + B + C).

    Args:
        ncsnr: [n_voxels] noise-ceiling signal-to-noise ratio, not negative.
        repeats: [n_images] trials averaged, each at least 1.

    Returns:
        float32 [n_voxels] in [0, 1), on the scale of R^2 (its root is a correlation).

    Raises:
        ValueError: on a negative or non-finite ncsnr, or fewer than one repeat.
    """
    ratio = np.asarray(ncsnr, np.float64)
    counts = np.asarray(repeats, np.float64)
    if not np.isfinite(ratio).all() or (ratio < 0).any():
        raise ValueError("ncsnr must be finite and not negative")
    if not counts.size or (counts < 1).any():
        raise ValueError("repeats must be at least 1 for every image")
    signal = ratio**2
    return (signal / (signal + np.mean(1 / counts))).astype(np.float32)
