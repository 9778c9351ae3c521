"""A Gaussian mixture over voxel embeddings: scikit-learn's, regularised and seeded."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.mixture import GaussianMixture


def fit_mixture(
    points: ArrayLike,
    n_components: int,
    seed: int,
    regularisation: float = 1e-4,
    max_iterations: int = 100,
) -> GaussianMixture:
    """Fit a mixture of full-covariance Gaussians by expectation-maximisation, in float64.

    Args:
        points: [n, d].
        n_components: Number of components.
        seed: Of the k-means start.
        regularisation: Added to the diagonals of the covariances. Unit vectors of 64 to 256
            values vary by about 1/d, 0.004 to 0.016, a value, so 1e-4 only matters where a
            component has fewer points than dimensions.
        max_iterations: Bound on the iterations.

    Returns:
        The fitted `sklearn.mixture.GaussianMixture`.

    Raises:
        ValueError: if there are too few points or values that are not finite.
    """
    values = np.asarray(points, np.float64)
    if values.ndim != 2 or len(values) < n_components or not np.isfinite(values).all():
        raise ValueError(
            f"points have shape {values.shape}; expected [n >= {n_components}, d], all finite"
        )
    mixture = GaussianMixture(
        n_components,
        covariance_type="full",
        reg_covar=regularisation,
        max_iter=max_iterations,
        random_state=seed,
    )
    return mixture.fit(values)
