"""How many clusters: likelihood of voxels held out, BIC, stability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainit_clusters.analysis.stability import half_stability
from brainit_clusters.clusters import unit
from brainit_clusters.mixture import fit_mixture


@dataclass(frozen=True, eq=False)
class NumberOfClusters:
    """Three views of how many clusters there are; they need not agree.

    Attributes:
        candidates: int64 [n], the numbers that were tried.
        log_likelihood: float64 [n], mean over held-out voxels, in nats; higher is better.
        bic: float64 [n], Bayesian information criterion on the fitted voxels (Schwarz, 1978);
            lower is better.
        adjusted_rand: float64 [n], of fits of two random halves of the voxels (`half_stability`).
        adjusted_mutual_information: float64 [n], likewise.
    """

    candidates: NDArray[np.int64]
    log_likelihood: NDArray[np.float64]
    bic: NDArray[np.float64]
    adjusted_rand: NDArray[np.float64]
    adjusted_mutual_information: NDArray[np.float64]

    def best(self) -> dict[str, int]:
        """Name the best candidate by each criterion; the earlier one where two are equal."""
        scores = {
            "log_likelihood": self.log_likelihood,
            "bic": -self.bic,
            "adjusted_rand": self.adjusted_rand,
            "adjusted_mutual_information": self.adjusted_mutual_information,
        }
        return {name: int(self.candidates[np.argmax(score)]) for name, score in scores.items()}


def choose_n_clusters(
    embeddings: Mapping[str, ArrayLike],
    candidates: Sequence[int],
    seed: int = 0,
    held_out: float = 0.2,
    n_splits: int = 2,
) -> NumberOfClusters:
    """Try several numbers of clusters, each on the same voxels.

    The likelihoods are of the mixture of unit vectors that `fit_clusters` fits; each candidate
    costs 1 + 2 `n_splits` fits.

    Args:
        embeddings: Subject -> [N_s, E].
        candidates: Numbers of clusters to try.
        seed: Of which voxels are held out, of the halves and of the fits.
        held_out: Share of every subject's voxels, in (0, 1), that is not fitted but scored.
        n_splits: Random halvings for the stability.

    Raises:
        ValueError: if there is no candidate, one below 1, or more than there are voxels to fit.
    """
    if not candidates or min(candidates) < 1 or not 0 < held_out < 1:
        raise ValueError(
            f"candidates {tuple(candidates)} and held_out {held_out}: expected at least one "
            "number of 1 or more, and a share in (0, 1)"
        )
    rng = np.random.default_rng(seed)
    fitted, scored = [], []
    for name, values in embeddings.items():
        order = rng.permutation(unit(values, name))
        count = max(1, round(held_out * len(order)))
        scored.append(order[:count])
        fitted.append(order[count:])
    points, unseen = (np.concatenate(part).astype(np.float64) for part in (fitted, scored))
    rows = []
    for k in candidates:
        mixture = fit_mixture(points, k, seed)
        halves = half_stability(embeddings, k, n_splits, seed)
        rows.append(
            (
                float(mixture.score(unseen)),
                float(mixture.bic(points)),
                halves.adjusted_rand.mean(),
                halves.adjusted_mutual_information.mean(),
            )
        )
    return NumberOfClusters(np.asarray(candidates, np.int64), *np.array(rows, np.float64).T)
