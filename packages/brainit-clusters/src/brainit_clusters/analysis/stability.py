"""Do the clusters come back? Over seeds, over halves of the voxels, over left-out subjects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainit_clusters.analysis.agreement import Agreement, agreement
from brainit_clusters.clusters import VoxelClusters, fit_clusters, unit

Fit: TypeAlias = Callable[[Mapping[str, ArrayLike], int, int], VoxelClusters]
"""Embeddings by subject, number of clusters, seed -> clusters."""

_Halves: TypeAlias = dict[str, NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class Stability:
    """Agreement between clusters that should be the same.

    Attributes:
        compared: What each value compares, [n].
        adjusted_rand: float64 [n], 1 for the same clusters, 0 for chance.
        adjusted_mutual_information: float64 [n], likewise.
    """

    compared: tuple[str, ...]
    adjusted_rand: NDArray[np.float64]
    adjusted_mutual_information: NDArray[np.float64]

    @classmethod
    def of(cls, found: Iterable[tuple[str, Agreement]]) -> Stability:
        """Gather agreements under their names."""
        names, values = zip(*found, strict=True)
        return cls(
            tuple(names),
            np.array([value.adjusted_rand for value in values]),
            np.array([value.adjusted_mutual_information for value in values]),
        )


def seed_stability(
    embeddings: Mapping[str, ArrayLike],
    n_clusters: int,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    fit: Fit = fit_clusters,
) -> Stability:
    """Fit with each seed and compare every two fits.

    Args:
        embeddings: Subject -> [N_s, E].
        n_clusters: K.
        seeds: At least two.
        fit: `fit_clusters`, or a baseline such as `kmeans_clusters`.

    Raises:
        ValueError: if there are fewer than two different seeds.
    """
    if len(set(seeds)) < 2:
        raise ValueError(f"seeds are {tuple(seeds)}, expected at least two different ones")
    fits = {seed: fit(embeddings, n_clusters, seed) for seed in dict.fromkeys(seeds)}
    return Stability.of(
        (f"seeds {a} and {b}", agreement(fits[a], fits[b])) for a, b in combinations(fits, 2)
    )


def half_stability(
    embeddings: Mapping[str, ArrayLike],
    n_clusters: int,
    n_splits: int = 5,
    seed: int = 0,
    fit: Fit = fit_clusters,
) -> Stability:
    """Fit each random half of every subject's voxels and compare the two on all voxels.

    A fit's labels of the other half are those of the nearest voxels of its own (the rule for new
    subjects).

    Args:
        embeddings: Subject -> [N_s >= 2, E].
        n_clusters: K.
        n_splits: How many times to halve.
        seed: Of the halves and of the fits.
        fit: See `seed_stability`.

    Raises:
        ValueError: if a subject has fewer than two voxels or there is no split.
    """
    parts = {name: unit(values, name) for name, values in embeddings.items()}
    if n_splits < 1 or any(len(values) < 2 for values in parts.values()):
        raise ValueError("expected at least one split, and two voxels of every subject")
    rng = np.random.default_rng(seed)
    found = []
    for split in range(n_splits):
        first: _Halves = {name: _half(len(values), rng) for name, values in parts.items()}
        second: _Halves = {name: ~chosen for name, chosen in first.items()}
        maps = [_fit_half(parts, half, n_clusters, seed, fit) for half in (first, second)]
        found.append((f"halves {split}", agreement(*maps)))
    return Stability.of(found)


def subject_stability(
    embeddings: Mapping[str, ArrayLike], n_clusters: int, seed: int = 0, fit: Fit = fit_clusters
) -> Stability:
    """Leave each subject out, transfer the others' clusters to it, compare with the full fit.

    Args:
        embeddings: Subject -> [N_s, E].
        n_clusters: K.
        seed: Of all fits.
        fit: See `seed_stability`.

    Returns:
        One value a subject, over that subject's voxels alone.

    Raises:
        ValueError: if there are fewer than two subjects.
    """
    if len(embeddings) < 2:
        raise ValueError(f"subjects are {sorted(embeddings)}, expected at least two")
    full = fit(embeddings, n_clusters, seed)
    found = []
    for left_out in embeddings:
        others = {name: values for name, values in embeddings.items() if name != left_out}
        transferred, _ = fit(others, n_clusters, seed).assign(embeddings[left_out], others)
        same = agreement({left_out: full.labels_of(left_out)}, {left_out: transferred})
        found.append((f"{left_out} left out", same))
    return Stability.of(found)


def _half(count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    chosen: NDArray[np.bool_] = rng.permutation(count) < count // 2
    return chosen


def _fit_half(
    parts: Mapping[str, NDArray[np.float32]], half: _Halves, n_clusters: int, seed: int, fit: Fit
) -> dict[str, NDArray[np.int32]]:
    """Labels of all voxels by a fit of the chosen ones."""
    chosen = {name: values[half[name]] for name, values in parts.items()}
    clusters = fit(chosen, n_clusters, seed)
    labels = {}
    for name, values in parts.items():
        whole = np.empty(len(values), np.int32)
        whole[half[name]] = clusters.labels_of(name)
        whole[~half[name]] = clusters.assign(values[~half[name]], chosen)[0]
        labels[name] = whole
    return labels
