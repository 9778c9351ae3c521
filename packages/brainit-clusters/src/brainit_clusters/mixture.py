"""A Gaussian mixture as a scikit-learn estimator: blocked, in float32 with float64 sums."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Self

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from tqdm import tqdm

from brainit_clusters.gaussians import (
    Double,
    Gaussians,
    Kind,
    Moments,
    Real,
    blocks,
    posterior,
)

_TYPES = [np.float64, np.float32]


class GaussianMixture(DensityMixin, BaseEstimator):  # type: ignore[misc]
    """Mixture of Gaussians, fitted by expectation-maximisation.

    It does what `sklearn.mixture.GaussianMixture` does, by the same names, in less time and memory.
    Samples in float32 are multiplied in float32 and summed in float64; samples in float64 are
    treated in float64 throughout. Each iteration goes through the samples once, in blocks, so that
    nothing of the size of samples times components is kept.

    Args:
        n_components: Number K of Gaussians.
        covariance_type: "full", "diag" or "spherical".
        tol: The fit ends where the mean log likelihood of a sample changes by less.
        reg_covar: Added to variances.
        max_iter: Bound on the iterations.
        n_init: Number of starts; the likeliest result is kept.
        init_params: What gives the starts: "kmeans" or "k-means++" (its seeds alone).
        weights_init: [K] given start, in place of that from `init_params`.
        means_init: [K, D], the same.
        precisions_init: Inverse covariances, in the shape of `covariances_`, the same.
        random_state: Seed of the starts.
        verbose: Whether to show progress.

    Attributes:
        weights_: float64 [K].
        means_: float64 [K, D].
        covariances_: float64 [K, D, D] (full), [K, D] (diag) or [K] (spherical).
        precisions_cholesky_: Upper triangular U with U Uᵀ the precision, or square roots of the
            precisions; float32 for full covariances of float32 samples.
        converged_: Whether the kept fit ended by `tol`.
        n_iter_: Iterations of the kept fit.
        lower_bound_: Mean log likelihood of a sample in its last iteration.
        lower_bounds_: The same in each iteration.
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: Kind = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        weights_init: ArrayLike | None = None,
        means_init: ArrayLike | None = None,
        precisions_init: ArrayLike | None = None,
        random_state: int | RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Fit to samples [n, D]; `y` is ignored.

        Raises:
            ValueError: if there are too few samples, values that are not finite, or a covariance
                that is not positive definite.
        """
        self._check_options()
        least = max(2, self.n_components)
        samples: Real = validate_data(self, X, dtype=_TYPES, ensure_min_samples=least)
        random = check_random_state(self.random_state)
        best: tuple[Gaussians, list[float], bool] | None = None
        for start in range(self.n_init):
            gaussians = self._start(samples, random)
            bounds, converged = self._iterate(gaussians, samples, start)
            if best is None or bounds[-1] > best[1][-1]:
                best = gaussians, bounds, converged
        assert best is not None
        self._gaussians, self.lower_bounds_, self.converged_ = best
        self.weights_, self.means_ = self._gaussians.weights, self._gaussians.means
        self.covariances_ = self._gaussians.covariances
        self.precisions_cholesky_ = self._gaussians.factors
        self.n_iter_, self.lower_bound_ = len(self.lower_bounds_), self.lower_bounds_[-1]
        if not self.converged_:
            warnings.warn(
                f"the likelihood still changed by more than tol after {self.n_iter_} iterations",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def fit_predict(self, X: ArrayLike, y: object = None) -> NDArray[np.intp]:
        """Fit and give each sample's likeliest component: [n]."""
        return self.fit(X).predict(X)

    def predict(self, X: ArrayLike) -> NDArray[np.intp]:
        """Likeliest component of each sample: [n]."""
        parts = [self._gaussians.log_joint(block).argmax(axis=1) for block in self._blocks(X)]
        return np.concatenate(parts)

    def predict_proba(self, X: ArrayLike) -> Double:
        """Responsibilities: float64 [n, K]."""
        parts = [posterior(self._gaussians.log_joint(block))[1] for block in self._blocks(X)]
        return np.concatenate(parts)

    def score_samples(self, X: ArrayLike) -> Double:
        """Log likelihood of each sample: float64 [n]."""
        parts = [posterior(self._gaussians.log_joint(block))[0] for block in self._blocks(X)]
        return np.concatenate(parts)

    def score(self, X: ArrayLike, y: object = None) -> float:
        """Mean log likelihood of a sample."""
        return float(self.score_samples(X).mean())

    def bic(self, X: ArrayLike) -> float:
        """Bayesian information criterion on samples [n, D]: the lower the better."""
        likelihoods = self.score_samples(X)
        return float(np.log(len(likelihoods)) * self._n_parameters() - 2 * likelihoods.sum())

    def aic(self, X: ArrayLike) -> float:
        """Akaike information criterion on samples [n, D]: the lower the better."""
        return float(2 * self._n_parameters() - 2 * self.score_samples(X).sum())

    def _n_parameters(self) -> int:
        n_components, n_features = self.means_.shape
        triangle = n_features * (n_features + 1) // 2
        a_component = {"full": triangle, "diag": n_features, "spherical": 1}[self.covariance_type]
        return int(n_components * (n_features + a_component + 1) - 1)

    def _blocks(self, X: ArrayLike) -> Iterator[Real]:
        check_is_fitted(self)
        return blocks(validate_data(self, X, reset=False, dtype=_TYPES))

    def _check_options(self) -> None:
        if self.covariance_type not in ("full", "diag", "spherical"):
            raise ValueError(
                f"covariance_type is {self.covariance_type!r}, expected full, diag or spherical"
            )
        least = {"n_components": 1, "max_iter": 1, "n_init": 1, "tol": 0, "reg_covar": 0}
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least {bound}")

    def _start(self, samples: Real, random: RandomState) -> Gaussians:
        """Gaussians of the labels of a start, and what is given in their place."""
        shape = self.n_components, samples.shape[1]
        gaussians = Gaussians.empty(self.covariance_type, *shape, samples.dtype)
        weights = self._given("weights_init", gaussians.weights.shape)
        means = self._given("means_init", gaussians.means.shape)
        precisions = self._given("precisions_init", gaussians.covariances.shape)
        if weights is None or means is None or precisions is None:
            gaussians.means, labels = self._seeds(samples, random)
            moments = Moments(gaussians)
            for block, part in zip(blocks(samples), blocks(labels), strict=True):
                moments.add(block, np.equal.outer(part, np.arange(shape[0])).astype(np.float64))
            gaussians.maximise(moments, self.reg_covar)
        if weights is not None:
            if (weights < 0).any() or not np.isclose(weights.sum(), 1):
                raise ValueError("weights_init must be at least 0 and sum to 1")
            gaussians.weights = weights
        if means is not None:
            gaussians.means = means
        if precisions is not None:
            gaussians.set_precisions(precisions)
        return gaussians

    def _given(self, name: str, shape: tuple[int, ...]) -> Double | None:
        value = getattr(self, name)
        if value is None:
            return None
        array = np.asarray(value, np.float64)
        if array.shape != shape or not np.isfinite(array).all():
            raise ValueError(f"{name} has shape {array.shape}; expected {shape}, all finite")
        return array

    def _seeds(self, samples: Real, random: RandomState) -> tuple[Double, NDArray[np.intp]]:
        """Centres [K, D] and each sample's component [n], -1 for none."""
        if self.init_params == "kmeans":
            found = KMeans(self.n_components, n_init=1, random_state=random).fit(samples)
            return found.cluster_centers_.astype(np.float64), found.labels_.astype(np.intp)
        if self.init_params == "k-means++":
            _, chosen = kmeans_plusplus(samples, self.n_components, random_state=random)
            labels = np.full(len(samples), -1)
            labels[chosen] = np.arange(self.n_components)
            return samples[chosen].astype(np.float64), labels
        raise ValueError(f"init_params is {self.init_params!r}, expected kmeans or k-means++")

    def _iterate(self, gaussians: Gaussians, samples: Real, start: int) -> tuple[list[float], bool]:
        """Expectation-maximisation in place: mean log likelihoods, and whether they settled."""
        bounds: list[float] = []
        label = f"mixture, start {start + 1} of {self.n_init}"
        with tqdm(range(self.max_iter), desc=label, disable=not self.verbose) as steps:
            for _ in steps:
                moments, total = Moments(gaussians), 0.0
                for block in blocks(samples):
                    likelihoods, responsibilities = posterior(gaussians.log_joint(block))
                    total += float(likelihoods.sum())
                    moments.add(block, responsibilities)
                gaussians.maximise(moments, self.reg_covar)
                bounds.append(total / len(samples))
                steps.set_postfix(log_likelihood=f"{bounds[-1]:.6g}")
                if len(bounds) > 1 and abs(bounds[-1] - bounds[-2]) < self.tol:
                    return bounds, True
        return bounds, False


def fit_mixture(
    points: ArrayLike,
    n_components: int,
    seed: int,
    regularisation: float = 1e-4,
    max_iterations: int = 100,
) -> GaussianMixture:
    """Fit a mixture of full-covariance Gaussians to embeddings.

    Args:
        points: [n, d]; float32 ones are multiplied in float32, see `GaussianMixture`.
        n_components: Number of components.
        seed: Of the k-means start.
        regularisation: Added to the diagonals of the covariances. Unit vectors of 64 to 256
            values vary by about 1/d, 0.004 to 0.016, a value, so 1e-4 only matters where a
            component has fewer points than dimensions.
        max_iterations: Bound on the iterations.

    Returns:
        The fitted mixture.

    Raises:
        ValueError: if there are too few points or values that are not finite.
    """
    values = np.asarray(points)
    if values.ndim != 2 or len(values) < n_components or not np.isfinite(values).all():
        raise ValueError(
            f"points have shape {values.shape}; expected [n >= {n_components}, d], all finite"
        )
    mixture = GaussianMixture(
        n_components, reg_covar=regularisation, max_iter=max_iterations, random_state=seed
    )
    return mixture.fit(values)
