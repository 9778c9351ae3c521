"""Which clusters hold more of which region of interest than chance puts there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainit_clusters.analysis._labels import Labels, aligned, count_pairs, n_labels
from brainit_clusters.analysis.significance import Correction, corrected, permutation_p


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
        n_permutations: No p is below 1 / (1 + n_permutations).
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
) -> Enrichment:
    """Test which clusters are enriched in which regions, by permuting labels within subjects.

    Permuting voxel by voxel ignores that neighbours are alike: read the p-values as a bar to
    clear, and the overlap as the result.

    Args:
        labels: Clusters, or subject -> int [N_s].
        regions: Subject -> int [N_s] (`SubjectData.roi[...]`).
        n_permutations: With Holm's correction, more than K x R / level, or nothing can pass.
        seed: Of the permutations.
        correction: "holm" or "benjamini-hochberg".
        background: Code of voxels in no region; not tested. None: every code is a region.

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
    at_least = np.zeros(shape, np.int64)
    rng = np.random.default_rng(seed)
    shuffled = columns.copy()
    for _ in range(n_permutations):
        for voxels in slices:
            rng.shuffle(shuffled[voxels])
        at_least += count_pairs(ours, shuffled, *shape) >= overlap
    p = permutation_p(at_least, n_permutations)
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


def _expected(
    ours: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Mean of the hypergeometric distribution within one subject."""
    rows = np.bincount(ours, minlength=shape[0]).astype(np.float64)
    return np.outer(rows, np.bincount(columns, minlength=shape[1])) / max(len(ours), 1)
