"""`VoxelMap`: one value for each voxel of a subject, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainit_clusters.clusters import VoxelClusters
from brainit_clusters.colours import distinct_colours
from brainit_clusters.data.dataset import SubjectData

CLUSTERS = "v2c"
"""What a map of clusters is called: the voxel-to-cluster map."""


@dataclass(frozen=True, eq=False)
class VoxelMap:
    """Numbers or labels of one subject's voxels.

    Attributes:
        name: In letters and digits; becomes `desc` of labels, `stat` of numbers.
        values: [n_voxels], floats (NaN: unknown), or int32 labels from 1 (0: none).
        description: One sentence.
        title: Above pictures of it.
        units: Of the numbers, "" where they have none.
        labels: Label -> name, ascending; None for a map of numbers.
        params: How it was made (JSON values).
    """

    name: str
    values: NDArray[np.floating] | NDArray[np.int32]
    description: str
    title: str
    units: str = ""
    labels: Mapping[int, str] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)

    def colours(self) -> dict[int, tuple[float, float, float]]:
        """Red, green and blue in [0, 1] of each label; none for a map of numbers."""
        if not self.labels:
            return {}
        table = distinct_colours(max(self.labels))
        return {label: tuple(table[label - 1].tolist()) for label in self.labels}


def cluster_map(clusters: VoxelClusters, subject: str) -> VoxelMap:
    """A subject's clusters: cluster k is label k + 1.

    Raises:
        ValueError: if the clusters are not of this subject.
    """
    return VoxelMap(
        CLUSTERS,
        clusters.labels_of(subject) + np.int32(1),
        "Functional cluster of each voxel, shared by all subjects; label k + 1 is cluster k.",
        "Functional clusters",
        labels={k + 1: f"cluster {k}" for k in range(clusters.n_clusters)},
        params={"n_clusters": clusters.n_clusters, "embedding_hash": clusters.embedding_hash},
    )


def atlas_map(subject: SubjectData, atlas: str) -> VoxelMap:
    """An atlas of the dataset; codes below 1 are none.

    Raises:
        ValueError: if the subject has no such atlas.
    """
    if atlas not in subject.roi:
        raise ValueError(f"{subject.name}: no atlas {atlas!r}, expected one of {list(subject.roi)}")
    values = np.maximum(subject.roi[atlas], 0).astype(np.int32)
    names = subject.roi_labels.get(atlas, {})
    codes = sorted({*np.unique(values).tolist(), *names} - {0})
    return VoxelMap(
        atlas,
        values,
        f"Atlas {atlas} of the dataset.",
        f"Atlas {atlas}",
        labels={code: names.get(code, str(code)) for code in codes if code > 0},
    )


def noise_ceiling_map(subject: SubjectData) -> VoxelMap:
    """The subject's noise ceiling."""
    return VoxelMap(
        "noiseceiling",
        subject.noise_ceiling,
        "Share of the variance of the averaged betas that a perfect model could explain.",
        "Noise ceiling",
        "R^2",
    )


def number_map(name: str, values: ArrayLike, description: str = "", units: str = "") -> VoxelMap:
    """Any numbers, one a voxel, such as an encoder's accuracy.

    Raises:
        ValueError: if they are not floats in one dimension.
    """
    array = np.asarray(values)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{name}: {array.dtype} of shape {array.shape}, expected floats [n]")
    return VoxelMap(name, array, description or f"{name} of each voxel.", name, units)
