"""The Gaussians of a mixture and their sums over samples, a block of samples at a time.

Full covariances: products of triangular and of symmetric matrices (half the work of general ones)
in the samples' type, summed over blocks in float64, so that float32 samples are fitted at the speed
of float32 and nearly as exactly as in float64. Diagonal and spherical ones cost little and are in
float64 throughout.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cholesky, get_blas_funcs, solve_triangular

Kind = Literal["full", "diag", "spherical"]
Real = NDArray[np.floating[Any]]
Double = NDArray[np.float64]

BLOCK = 2048  # samples; a block of 256 float32 features, 2 MiB, stays in a core's cache
NEGLIGIBLE = 1e-12  # a responsibility that changes no sum beyond float64's own rounding


@dataclass
class Gaussians:
    """K weighted Gaussians in D dimensions.

    Attributes:
        kind: Form of the covariances.
        weights: float64 [K].
        means: float64 [K, D].
        covariances: float64 [K, D, D] (full), [K, D] (diag) or [K] (spherical).
        factors: Upper triangular U with U Uᵀ the precision (full), or the precisions' square
            roots, in the shape of `covariances`; float64, or float32 for full ones if samples are.
    """

    kind: Kind
    weights: Double
    means: Double
    covariances: Double
    factors: Real

    @classmethod
    def empty(
        cls, kind: Kind, n_components: int, n_features: int, dtype: np.dtype[Any]
    ) -> Gaussians:
        """Gaussians with zeros in them, for samples of this type."""
        shape = {
            "full": (n_components, n_features, n_features),
            "diag": (n_components, n_features),
            "spherical": (n_components,),
        }[kind]
        factors = np.zeros(shape, dtype if kind == "full" else np.float64)
        means = np.zeros((n_components, n_features))
        return cls(kind, np.zeros(n_components), means, np.zeros(shape), factors)

    def log_joint(self, block: Real) -> Double:
        """Logarithms of weight times density: float64 [B, K] for samples [B, D]."""
        if self.kind == "full":
            squares = _squares_full(block, self.means, self.factors)
            diagonals = np.diagonal(self.factors, axis1=1, axis2=2)
        else:
            diagonals = _rows(self.factors, self.means)
            squares = _squares_diagonal(block, self.means, diagonals)
        with np.errstate(divide="ignore"):  # a weight may be zero
            scale: Double = np.log(self.weights) + np.log(diagonals, dtype=np.float64).sum(axis=1)
        squares += self.means.shape[1] * np.log(2 * np.pi)
        squares *= -0.5
        squares += scale
        return squares

    def set_precisions(self, precisions: Double) -> None:
        """Take the factors of given precisions, in the shape of `covariances`.

        Raises:
            ValueError: if a precision is not positive definite.
        """
        try:
            if self.kind == "full":
                for factor, precision in zip(self.factors, precisions, strict=True):
                    if not np.allclose(precision, precision.T):
                        raise LinAlgError
                    # Reversed, a lower triangular factor becomes an upper one.
                    factor[:] = np.linalg.cholesky(precision[::-1, ::-1])[::-1, ::-1]
            elif (precisions <= 0).any():
                raise LinAlgError
            else:
                self.factors = np.sqrt(precisions)
        except LinAlgError as error:
            raise ValueError("precisions_init must be symmetric, positive definite") from error

    def maximise(self, moments: Moments, reg_covar: float) -> None:
        """M-step: take means, weights and covariances from sums over the samples.

        `moments` may share its memory with `covariances`, which are overwritten.

        Raises:
            ValueError: if a covariance is not positive definite.
        """
        counts = moments.counts + 10 * np.finfo(np.float64).eps
        shifts = moments.first / counts[:, None]
        self.weights = counts / moments.n_samples
        self.means = moments.centres + shifts
        if self.kind == "full":
            for k, second in enumerate(moments.second):
                self.covariances[k] = _covariance(second, counts[k], shifts[k], reg_covar)
                self.factors[k] = precision_factor(self.covariances[k], k)
            return
        variances = moments.second / counts[:, None] - shifts**2 + reg_covar
        self.covariances = variances.mean(axis=1) if self.kind == "spherical" else variances
        if (self.covariances <= 0).any():
            raise ValueError("a component has no variance: increase reg_covar or fit fewer")
        self.factors = 1 / np.sqrt(self.covariances)


class Moments:
    """Sums over samples, weighted by responsibilities, of first and second powers around centres.

    Args:
        gaussians: Around whose means the sums are, which keeps them small. The memory of full
            covariances is taken over: they are not needed before the next ones.
    """

    def __init__(self, gaussians: Gaussians) -> None:
        means = gaussians.means
        self.full = gaussians.kind == "full"
        self.centres = means if self.full else np.broadcast_to(means.mean(axis=0), means.shape)
        self.n_samples = 0
        self.counts = np.zeros(len(means))
        self.first = np.zeros(means.shape)
        self.second = gaussians.covariances if self.full else np.zeros(means.shape)
        self.second[...] = 0
        self._buffer: Real = np.empty((0, means.shape[1]), gaussians.factors.dtype)

    def add(self, block: Real, responsibilities: Double) -> None:
        """Add samples [B, D] with responsibilities [B, K]."""
        self.n_samples += len(block)
        if self.full:
            for k, column in enumerate(responsibilities.T):
                self._add_full(block, column, k)
            return
        centred = block.astype(np.float64) - self.centres[0]
        self.counts += responsibilities.sum(axis=0)
        self.first += responsibilities.T @ centred
        self.second += responsibilities.T @ centred**2

    def _add_full(self, block: Real, column: Double, k: int) -> None:
        """Add to one component, from the samples that it has a share in."""
        rows = np.flatnonzero(column > NEGLIGIBLE)
        if not len(rows):
            return
        if len(rows) < len(block):
            block, column = block[rows], column[rows]
        root = np.sqrt(column).astype(block.dtype)
        if len(self._buffer) < len(block):
            self._buffer = np.empty_like(block)
        weighted = self._buffer[: len(block)]
        np.subtract(block, self.centres[k].astype(block.dtype), out=weighted)
        weighted *= root[:, None]
        syrk, gemv = get_blas_funcs(("syrk", "gemv"), (weighted,))
        self.counts[k] += column.sum()
        self.first[k] += gemv(1.0, weighted.T, root)
        self.second[k] += syrk(1.0, weighted.T).T  # its lower triangle


def blocks(samples: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Views of at most `BLOCK` rows, in order."""
    return (samples[start : start + BLOCK] for start in range(0, len(samples), BLOCK))


def posterior(log_joint: Double) -> tuple[Double, Double]:
    """Log likelihoods [B] and responsibilities [B, K]; the latter overwrite the argument."""
    largest = log_joint.max(axis=1, keepdims=True)
    responsibilities = np.exp(np.subtract(log_joint, largest, out=log_joint), out=log_joint)
    total = responsibilities.sum(axis=1, keepdims=True)
    responsibilities /= total
    return (largest + np.log(total))[:, 0], responsibilities


def precision_factor(covariance: Double, component: int) -> Double:
    """Upper triangular U with U Uᵀ = covariance⁻¹.

    Raises:
        ValueError: if the covariance is not positive definite.
    """
    try:
        lower = cholesky(covariance, lower=True, check_finite=False)
    except LinAlgError as error:
        raise ValueError(
            f"covariance of component {component} is not positive definite: increase reg_covar or "
            "fit fewer components"
        ) from error
    inverse: Double = solve_triangular(lower, np.eye(len(lower)), lower=True, check_finite=False)
    return inverse.T


def _covariance(second: Double, count: float, shift: Double, reg_covar: float) -> Double:
    """Covariance from the lower triangle of second powers around a centre."""
    lower = np.tril(second / count - np.outer(shift, shift))
    covariance: Double = lower + np.tril(lower, -1).T
    covariance[np.diag_indices_from(covariance)] += reg_covar
    return covariance


def _squares_full(block: Real, means: Double, factors: Real) -> Double:
    """Squared Mahalanobis distances: float64 [B, K]."""
    squares = np.empty((len(block), len(means)))
    centred = np.empty(block.shape, block.dtype)
    (trmm,) = get_blas_funcs(("trmm",), (centred,))
    for k, (mean, factor) in enumerate(zip(means, factors, strict=True)):
        np.subtract(block, mean.astype(block.dtype), out=centred)
        lower = factor.astype(block.dtype, copy=False).T
        white = trmm(1.0, lower, centred.T, lower=1, overwrite_b=1).T
        squares[:, k] = np.einsum("ij,ij->i", white, white)
    return squares


def _squares_diagonal(block: Real, means: Double, scales: Real) -> Double:
    """The same for diagonal precisions, given as their square roots [K, D]."""
    centre = means.mean(axis=0)
    samples, means, precisions = block.astype(np.float64) - centre, means - centre, scales**2
    squares: Double = samples**2 @ precisions.T - 2 * samples @ (means * precisions).T
    squares += (means**2 * precisions).sum(axis=1)
    return squares


def _rows(values: Real, means: Double) -> Double:
    """[K] or [K, D] as [K, D]."""
    return np.broadcast_to(values.reshape(len(means), -1), means.shape)
