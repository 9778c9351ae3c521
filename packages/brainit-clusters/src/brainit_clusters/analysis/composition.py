"""What a cluster is made of: whose voxels, and of which hemisphere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainit_clusters.analysis._labels import Labels, aligned, by_subject, count_pairs, n_labels


@dataclass(frozen=True, eq=False)
class Composition:
    """Voxels of each cluster by subject and hemisphere.

    Attributes:
        subjects: Names of the S subjects.
        counts: int64 [K, S, 3], voxels; the last axis is left, right, neither (volumes).
        subject_share: float64 [K, S], share of a subject's voxels that lie in a cluster.
        effective_subjects: float64 [K] in [1, S], how many subjects make up a cluster: the
            exponential of the entropy of `subject_share` across subjects, so that subjects with
            many voxels weigh no more (Hill, 1973); 0 for an empty cluster.
        left_share: float64 [K] in [0, 1], share of the left hemisphere among the voxels of
            either; NaN where there are none.
    """

    subjects: tuple[str, ...]
    counts: NDArray[np.int64]
    subject_share: NDArray[np.float64]
    effective_subjects: NDArray[np.float64]
    left_share: NDArray[np.float64]


def composition(labels: Labels, hemisphere: Mapping[str, ArrayLike]) -> Composition:
    """Count each cluster's voxels by subject and hemisphere.

    Args:
        labels: Clusters, or subject -> int [N_s].
        hemisphere: Subject -> [N_s], 0 left, 1 right, 2 neither (`SubjectData.hemisphere`).

    Raises:
        ValueError: if these are not of the same voxels, or a hemisphere is not 0, 1 or 2.
    """
    ours, sides, slices = aligned(labels, hemisphere, "hemisphere")
    if sides.max(initial=0) > 2:
        raise ValueError(f"hemisphere holds {sides.max()}, expected 0 left, 1 right, 2 neither")
    k = n_labels(labels)
    counts = np.stack([count_pairs(ours[s], sides[s], k, 3) for s in slices], axis=1)
    per_subject = counts.sum(axis=2)
    share = per_subject / np.maximum(per_subject.sum(axis=0), 1)
    left, right = counts[:, :, 0].sum(axis=1), counts[:, :, 1].sum(axis=1)
    with np.errstate(invalid="ignore"):
        left_share = left / (left + right)
    return Composition(tuple(by_subject(labels)), counts, share, _effective(share), left_share)


def _effective(share: NDArray[np.float64]) -> NDArray[np.float64]:
    total = share.sum(axis=1, keepdims=True)
    p = share / np.where(total > 0, total, 1)
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(axis=1)
    return np.where(total[:, 0] > 0, np.exp(entropy), 0.0)
