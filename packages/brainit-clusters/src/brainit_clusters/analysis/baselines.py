"""Other ways to group voxels, and one footing on which to compare them with the clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import KMeans

from brainit_clusters.analysis._labels import Labels, by_subject, n_labels
from brainit_clusters.clusters import VoxelClusters, hash_of, unit
from brainit_clusters.data.record import SubjectData


def kmeans_clusters(
    embeddings: Mapping[str, ArrayLike], n_clusters: int, seed: int
) -> VoxelClusters:
    """Cluster the same unit vectors as `fit_clusters`, by k-means instead of a mixture.

    Args:
        embeddings: Subject -> [N_s, E].
        n_clusters: K.
        seed: Of the start.

    Raises:
        ValueError: if there are fewer voxels than clusters, or an embedding is zero or not finite.
    """
    parts = {name: unit(values, name) for name, values in embeddings.items()}
    labels, centres = _kmeans(list(parts.values()), n_clusters, seed)
    return VoxelClusters(
        labels=labels,
        subject_offsets=np.cumsum([0, *map(len, parts.values())]).astype(np.int64),
        subjects=tuple(parts),
        centres=centres.astype(np.float32),
        embedding_hash=hash_of(np.concatenate(list(parts.values()))),
    )


def coordinate_clusters(
    coordinates: Mapping[str, ArrayLike], n_clusters: int, seed: int
) -> dict[str, NDArray[np.int32]]:
    """Cluster voxels by where they lie alone: k-means of the coordinates of all subjects.

    Args:
        coordinates: Subject -> [N_s, 3] in one space in which the hemispheres lie apart, such as
            the vertices of fsaverage's white surface, in millimetres.
        n_clusters: K.
        seed: Of the start.

    Returns:
        Subject -> int32 [N_s] in [0, K).

    Raises:
        ValueError: if there are fewer voxels than clusters, or these are not coordinates.
    """
    parts = {name: np.asarray(values, np.float64) for name, values in coordinates.items()}
    for name, values in parts.items():
        if values.ndim != 2 or values.shape[1] != 3 or not np.isfinite(values).all():
            raise ValueError(f"{name}: coordinates {values.shape}, expected finite [n_voxels, 3]")
    labels, _ = _kmeans(list(parts.values()), n_clusters, seed)
    ends = np.cumsum([len(values) for values in parts.values()])
    return dict(zip(parts, np.split(labels, ends[:-1]), strict=True))


@dataclass(frozen=True, eq=False)
class Homogeneity:
    """How alike the voxels of a cluster respond.

    Attributes:
        voxel: Subject -> float64 [N_s], correlation over images, in [-1, 1], of each voxel with
            the mean of its cluster's other voxels; NaN where there are none or nothing varies.
        cluster: float64 [K], mean over all subjects' voxels of a cluster; NaN without any.
        mean: Mean over all voxels.
    """

    voxel: dict[str, NDArray[np.float64]]
    cluster: NDArray[np.float64]
    mean: float


def homogeneity(
    labels: Labels, subjects: Sequence[SubjectData], split: str = "test"
) -> Homogeneity:
    """Score any grouping by responses that it was not made from, within each subject.

    The same for clusters, k-means, coordinates and an atlas. A voxel is left out of the mean it is
    compared with, so small clusters gain nothing by being small. Compare groupings of about the
    same number of clusters.

    Args:
        labels: Clusters, or subject -> int [N_s].
        subjects: Responses of subjects among those of `labels`.
        split: Whose images: "train", "val" or "test".

    Raises:
        ValueError: if a subject is unknown, has other voxels, or fewer than two such images.
    """
    known, k = by_subject(labels), n_labels(labels)
    voxel: dict[str, NDArray[np.float64]] = {}
    for subject in subjects:
        if subject.name not in known or len(known[subject.name]) != subject.n_voxels:
            raise ValueError(f"labels are not of the {subject.n_voxels} voxels of {subject.name}")
        voxel[subject.name] = _alike(subject.betas[subject.rows(split)], known[subject.name])
    if not voxel:
        raise ValueError("no subjects, expected at least one")
    values = np.concatenate(list(voxel.values()))
    where = np.concatenate([known[name] for name in voxel])
    usable = np.isfinite(values)
    count = np.bincount(where[usable], minlength=k)
    total = np.bincount(where[usable], values[usable], minlength=k)
    cluster = np.divide(total, count, out=np.full(k, np.nan), where=count > 0)
    mean = float(values[usable].mean()) if usable.any() else float("nan")
    return Homogeneity(voxel, cluster, mean)


def _alike(betas: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    if len(betas) < 2:
        raise ValueError("a subject has fewer than two images of the split")
    result = np.full(len(labels), np.nan)
    for label in np.unique(labels):
        voxels = np.flatnonzero(labels == label)
        if len(voxels) < 2:
            continue
        own = betas[:, voxels].astype(np.float64)
        own -= own.mean(axis=0)
        rest = own.sum(axis=1, keepdims=True) - own
        power = np.einsum("iv,iv->v", own, own) * np.einsum("iv,iv->v", rest, rest)
        product = np.einsum("iv,iv->v", own, rest)
        scale = np.sqrt(power)
        result[voxels] = np.divide(
            product, scale, out=np.full(len(voxels), np.nan), where=scale > 0
        )
    return result


def _kmeans(
    parts: list[NDArray[np.float32]] | list[NDArray[np.float64]], n_clusters: int, seed: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    n_voxels = sum(map(len, parts))
    if not 1 <= n_clusters <= n_voxels:
        raise ValueError(f"{n_clusters} clusters of {n_voxels} voxels: expected 1 to {n_voxels}")
    points = np.concatenate(parts).astype(np.float64)
    model = KMeans(n_clusters, n_init=1, random_state=seed).fit(points)
    return model.labels_.astype(np.int32), model.cluster_centers_
