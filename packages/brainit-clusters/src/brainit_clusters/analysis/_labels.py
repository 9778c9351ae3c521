"""Labels of all subjects in one form, so that clusters, baselines and atlases are treated alike."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainit_clusters.clusters import VoxelClusters

Labels: TypeAlias = VoxelClusters | Mapping[str, ArrayLike]
"""Clusters, or any other labelling: subject name -> int [N_s], one label a voxel, from 0."""


def by_subject(labels: Labels, what: str = "labels") -> dict[str, NDArray[np.int64]]:
    """Give the labels of each subject: int64 [N_s].

    Raises:
        ValueError: if there are none, or if they are not integers of at least 0 in one dimension.
    """
    if isinstance(labels, VoxelClusters):
        return {name: labels.labels_of(name).astype(np.int64) for name in labels.subjects}
    if not labels:
        raise ValueError(f"{what}: no subjects, expected at least one")
    return {name: whole(values, f"{what} of {name}") for name, values in labels.items()}


def whole(values: ArrayLike, what: str) -> NDArray[np.int64]:
    """Check that values are labels: int64 [n].

    Raises:
        ValueError: if they are not integers of at least 0 in one dimension.
    """
    array = np.asarray(values)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer) or array.min(initial=0) < 0:
        raise ValueError(
            f"{what}: {array.dtype} of shape {array.shape}, expected integers of at least 0, [n]"
        )
    return array.astype(np.int64)


def aligned(
    first: Labels, second: Labels, what: str = "second labels"
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[slice]]:
    """Bring two labellings of the same voxels into one order.

    Returns:
        Both labellings, int64 [N], subject after subject, and each subject's slice of them.

    Raises:
        ValueError: if a subject is in one alone, or has another number of voxels in one.
    """
    ours, theirs = by_subject(first), by_subject(second, what)
    if set(ours) != set(theirs):
        raise ValueError(f"{what} are of {sorted(theirs)}, expected {sorted(ours)}")
    for name, values in ours.items():
        if len(theirs[name]) != len(values):
            raise ValueError(f"{what} of {name}: {len(theirs[name])}, expected {len(values)}")
    ends = np.cumsum([0, *map(len, ours.values())])
    slices = [slice(int(a), int(b)) for a, b in pairwise(ends)]
    joined = np.concatenate([theirs[name] for name in ours])
    return np.concatenate(list(ours.values())), joined, slices


def n_labels(labels: Labels) -> int:
    """K: the clusters' own number, or one more than the largest label."""
    if isinstance(labels, VoxelClusters):
        return labels.n_clusters
    return 1 + max(int(values.max(initial=-1)) for values in by_subject(labels).values())


def count_pairs(
    rows: NDArray[np.int64], columns: NDArray[np.int64], n_rows: int, n_columns: int
) -> NDArray[np.int64]:
    """Contingency table: int64 [n_rows, n_columns]."""
    flat = np.bincount(rows * n_columns + columns, minlength=n_rows * n_columns)
    return flat.reshape(n_rows, n_columns).astype(np.int64)
