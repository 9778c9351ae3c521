"""Which clusters hold more of which region of interest than chance puts there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainit_clusters.analysis._labels import Labels, aligned, count_pairs, n_labels
from brainit_clusters.analysis.significance import Correction, corrected, permutation_p
from brainit_clusters.analysis.spin import Spins, joined


@dataclass(frozen=True, eq=False)
class Enrichment:
    """Overlap of K clusters with R regions, and how it compares with chance.

    Attributes:
        regions: int64 [R], the regions' codes, ascending.
        overlap: int64 [K, R], voxels in both.
        dice: float64 [K, R] in [0, 1], twice the overlap over the sum of both sizes.
        expected: float64 [K, R], mean overlap if labels were permuted within each subject.
        p: float64 [K, R], one-sided (more than chance), not corrected; NaN for empty clusters.
        adjusted_p: float64 [K, R], corrected for all K x R tests.
        correction: How: "holm" or "benjamini-hochberg".
        n_permutations: No p is below 1 / (1 + n_permutations); rotations, with spins.
    """

    regions: NDArray[np.int64]
    overlap: NDArray[np.int64]
    dice: NDArray[np.float64]
    expected: NDArray[np.float64]
    p: NDArray[np.float64]
    adjusted_p: NDArray[np.float64]
    correction: str
    n_permutations: int


def roi_enrichment(
    labels: Labels,
    regions: Labels,
    n_permutations: int = 1000,
    seed: int = 0,
    correction: Correction = "benjamini-hochberg",
    background: int | None = 0,
    spins: Spins | None = None,
) -> Enrichment:
    """Test which clusters are enriched in which regions.

    By default labels are permuted within subjects. Permuting voxel by voxel ignores that
    neighbours are alike, and finds almost any two smooth maps related; `spins` turns the regions
    about the sphere instead, and keeps their shape. The statistic is then the phi correlation of
    being in the cluster and in the region, over the voxels that keep a label, so that rotations
    with fewer of them compare. Rotations that carry a whole region away do not count for it.

    Args:
        labels: Clusters, or subject -> int [N_s].
        regions: Subject -> int [N_s] (`SubjectData.roi[...]`).
        n_permutations: With Holm's correction, more than K x R / level, or nothing can pass.
            With spins, there are as many as of these.
        seed: Of the permutations.
        correction: "holm" or "benjamini-hochberg".
        background: Code of voxels in no region; not tested. None: every code is a region.
        spins: Rotations of the same subjects, for p-values that allow for smoothness.

    Raises:
        ValueError: if these are not of the same voxels, or there is no region.
    """
    ours, codes, slices = aligned(labels, regions, "regions")
    values, columns = np.unique(codes, return_inverse=True)
    columns = columns.astype(np.int64)
    tested = values != background
    if not tested.any() or n_permutations < 1:
        raise ValueError("expected at least one region and one permutation")
    shape = (n_labels(labels), len(values))
    overlap = count_pairs(ours, columns, *shape)
    if spins is None:
        p = _permuted(ours, columns, slices, overlap, n_permutations, seed)
    else:
        n_permutations = spins.n
        p = _spun(ours, columns, joined(spins, labels, slices), overlap)
    p[overlap.sum(axis=1) == 0] = np.nan
    size = overlap.sum(axis=1, keepdims=True) + overlap.sum(axis=0)
    expected = sum(_expected(ours[s], columns[s], shape) for s in slices)
    return Enrichment(
        values[tested],
        overlap[:, tested],
        (2 * overlap / size)[:, tested],
        np.asarray(expected)[:, tested],
        p[:, tested],
        corrected(p[:, tested], correction),
        correction,
        n_permutations,
    )


def _permuted(
    ours: NDArray[np.int64],
    columns: NDArray[np.int64],
    slices: list[slice],
    overlap: NDArray[np.int64],
    n_permutations: int,
    seed: int,
) -> NDArray[np.float64]:
    at_least = np.zeros(overlap.shape, np.int64)
    rng = np.random.default_rng(seed)
    shuffled = columns.copy()
    for _ in range(n_permutations):
        for voxels in slices:
            rng.shuffle(shuffled[voxels])
        at_least += count_pairs(ours, shuffled, *overlap.shape) >= overlap
    return permutation_p(at_least, n_permutations)


def _spun(
    ours: NDArray[np.int64],
    columns: NDArray[np.int64],
    sources: Iterable[NDArray[np.intp]],
    overlap: NDArray[np.int64],
) -> NDArray[np.float64]:
    found = _phi(overlap)
    at_least, usable = np.zeros(overlap.shape, np.int64), np.zeros(overlap.shape, np.int64)
    for source in sources:
        kept = source >= 0
        phi = _phi(count_pairs(ours[kept], columns[source[kept]], *overlap.shape))
        usable += np.isfinite(phi)
        at_least += phi >= found
    return (1.0 + at_least) / (1 + usable)


def _phi(overlap: NDArray[np.int64]) -> NDArray[np.float64]:
    """Correlation of membership in row and column, [K, R]; NaN where one is empty or all."""
    n, rows = overlap.sum(), overlap.sum(axis=1, keepdims=True)
    columns = overlap.sum(axis=0)
    scale = np.sqrt(rows * (n - rows) * (columns * (n - columns)).astype(np.float64))
    difference = (overlap * n - rows * columns).astype(np.float64)
    empty = np.full(overlap.shape, np.nan)
    phi: NDArray[np.float64] = np.divide(difference, scale, out=empty, where=scale > 0)
    return phi


def _expected(
    ours: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Mean of the hypergeometric distribution within one subject."""
    rows = np.bincount(ours, minlength=shape[0]).astype(np.float64)
    return np.outer(rows, np.bincount(columns, minlength=shape[1])) / max(len(ours), 1)
