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


class RepeatNoise:
    """Signal and noise of single trials, from the images that were shown more than once.

    As for NSD (Allen et al. 2022): the noise variance is that of an image's repeats around their
    mean (unbiased, pooled over the repeated images by their degrees of freedom), the signal
    variance what remains of the variance of all trials, at least 0.

    Args:
        counts: int [n_images], trials of each image.
        n_voxels: Number of voxels.
    """

    def __init__(self, counts: NDArray[np.intp], n_voxels: int) -> None:
        self._counts = counts
        self._sum, self._squares, self._within = np.zeros((3, n_voxels))

    def add(self, row: int, columns: slice, value: NDArray[np.float32]) -> None:
        """Take in a trial: the image it showed, a range of voxels and their values."""
        exact = value.astype(np.float64)
        self._sum[columns] += exact
        self._squares[columns] += exact**2
        if self._counts[row] > 1:
            self._within[columns] += exact**2

    def finish(self, rows: slice, sums: NDArray[np.float32]) -> None:
        """Take in the sums over trials [n, n_voxels] of a range of images; each image once."""
        with np.errstate(invalid="ignore"):
            for count, total in zip(self._counts[rows], sums, strict=True):
                if count > 1:
                    self._within -= total.astype(np.float64) ** 2 / count

    @property
    def ncsnr(self) -> NDArray[np.float64]:
        """[n_voxels], signal over noise as standard deviations; NaN if no image was repeated."""
        freedom = int((self._counts - 1).sum())
        if not freedom:
            return np.full(len(self._sum), np.nan)
        n_trials = int(self._counts.sum())
        with np.errstate(invalid="ignore"):
            # Identical repeats leave rounding only; a ceiling of 1 then, not a division by 0.
            noise = np.maximum(self._within / freedom, np.finfo(np.float32).tiny)
            total = self._squares / n_trials - (self._sum / n_trials) ** 2
            ratio: NDArray[np.float64] = np.sqrt(np.maximum(total - noise, 0) / noise)
        return ratio
