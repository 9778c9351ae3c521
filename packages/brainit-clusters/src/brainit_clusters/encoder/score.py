"""How well responses are predicted, voxel by voxel; needs numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def voxel_correlation(predicted: ArrayLike, measured: ArrayLike) -> NDArray[np.float64]:
    """Pearson correlation of each voxel over the images.

    Args:
        predicted: [n_images, n_voxels].
        measured: [n_images, n_voxels].

    Returns:
        [n_voxels]; 0 where the prediction is constant (it explains nothing), NaN where the
        measurement is constant (there is nothing to explain).

    Raises:
        ValueError: if the shapes differ or there are fewer than two images.
    """
    x, y = (np.asarray(values, np.float64) for values in (predicted, measured))
    if x.shape != y.shape or x.ndim != 2 or len(x) < 2:
        raise ValueError(f"expected two [n_images >= 2, n_voxels], got {x.shape} and {y.shape}")
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    power_x, power_y = np.einsum("iv,iv->v", x, x), np.einsum("iv,iv->v", y, y)
    product = np.einsum("iv,iv->v", x, y)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.where(power_x > 0, product / np.sqrt(power_x * power_y), 0.0)
    return np.where(power_y > 0, correlation, np.nan)


def fraction_of_ceiling(
    correlation: ArrayLike, noise_ceiling: ArrayLike, minimum: float = 0.05
) -> NDArray[np.float64]:
    """Correlation over the highest that noise allows, the root of the noise ceiling.

    Args:
        correlation: [n_voxels].
        noise_ceiling: [n_voxels] in [0, 1], R^2 scale.
        minimum: Voxels with a noise ceiling below it have none worth the name and get NaN.

    Returns:
        [n_voxels]; by chance a voxel may exceed 1.
    """
    ceiling = np.asarray(noise_ceiling, np.float64)
    usable = np.where(ceiling >= minimum, ceiling, np.nan)
    return np.asarray(correlation, np.float64) / np.sqrt(usable)
