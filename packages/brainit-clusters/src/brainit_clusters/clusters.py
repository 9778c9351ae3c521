"""Functional clusters that all subjects share (the voxel-to-cluster map; Brain-IT sec. 3)."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from sklearn.exceptions import ConvergenceWarning

from brainit_clusters._files import existing, replacing
from brainit_clusters.mixture import fit_mixture

_SCHEMA_VERSION = "1"
_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class VoxelClusters:
    """Which cluster each voxel of each subject belongs to.

    Attributes:
        labels: int32 [N], all subjects' voxels one subject after the other, in [0, K).
        subject_offsets: int64 [S + 1], where each subject starts in `labels`, and N.
        subjects: Names of the S subjects.
        centres: float32 [K, E], mean of each component among the unit vectors.
        embedding_hash: SHA-256 of the unit vectors that were clustered.
    """

    labels: NDArray[np.int32]
    subject_offsets: NDArray[np.int64]
    subjects: tuple[str, ...]
    centres: NDArray[np.float32]
    embedding_hash: str

    def __post_init__(self) -> None:
        if len(self.subject_offsets) != len(self.subjects) + 1:
            raise ValueError(f"{len(self.subjects)} subjects need as many offsets and one more")
        if self.subject_offsets[0] != 0 or self.subject_offsets[-1] != len(self.labels):
            raise ValueError("subject_offsets must run from 0 to the number of labels")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < self.n_clusters:
            raise ValueError(f"labels must lie in [0, {self.n_clusters})")

    @property
    def n_clusters(self) -> int:
        """K."""
        return len(self.centres)

    def labels_of(self, subject: str) -> NDArray[np.int32]:
        """Labels of one subject's voxels: int32 [N_s].

        Raises:
            ValueError: if there is no such subject.
        """
        if subject not in self.subjects:
            raise ValueError(f"no subject {subject!r}, expected one of {self.subjects}")
        index = self.subjects.index(subject)
        return self.labels[self.subject_offsets[index] : self.subject_offsets[index + 1]]

    def voxels(self, cluster: int) -> dict[str, NDArray[np.intp]]:
        """Each subject's voxels of a cluster, as indices among that subject's own voxels.

        Raises:
            ValueError: if there is no such cluster.
        """
        if not 0 <= cluster < self.n_clusters:
            raise ValueError(f"cluster {cluster} is not in [0, {self.n_clusters})")
        return {name: np.flatnonzero(self.labels_of(name) == cluster) for name in self.subjects}

    def composition(self) -> NDArray[np.int64]:
        """Voxels of each subject in each cluster: [K, S]."""
        counts = [np.bincount(self.labels_of(s), minlength=self.n_clusters) for s in self.subjects]
        return np.stack(counts, axis=1).astype(np.int64)

    def assign(
        self,
        new_embeddings: ArrayLike,
        reference_embeddings: Mapping[str, ArrayLike] | ArrayLike,
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Clusters of a new subject's voxels: those of their nearest reference voxels.

        Distance is between unit vectors. A new voxel's start in a decoder is the embedding of its
        nearest reference voxel there (Brain-IT, new subjects).

        Args:
            new_embeddings: [M, E].
            reference_embeddings: What the clusters were fitted on: a mapping by subject, or all
                subjects' [N, E] in the order of `labels`.

        Returns:
            Labels, int32 [M], and nearest reference voxels, int64 [M] indices into `labels`.

        Raises:
            ValueError: if these are not the embeddings that were clustered.
        """
        if isinstance(reference_embeddings, Mapping):
            parts = [np.asarray(reference_embeddings[name]) for name in self.subjects]
            reference = unit(np.concatenate(parts))
        else:
            reference = unit(reference_embeddings)
        if hash_of(reference) != self.embedding_hash:
            raise ValueError("reference_embeddings are not those that the clusters were fitted on")
        new = unit(new_embeddings)
        starts = range(0, len(new), _BLOCK)
        best = [(new[start : start + _BLOCK] @ reference.T).argmax(axis=1) for start in starts]
        nearest = np.concatenate(best).astype(np.int64)
        return self.labels[nearest], nearest

    def save(self, path: str | Path, extra: Mapping[str, NDArray[Any]] | None = None) -> Path:
        """Write one safetensors file.

        Args:
            path: The file.
            extra: Further arrays to keep in it; `load` passes over them.
        """
        path = Path(path)
        arrays: dict[str, NDArray[Any]] = {
            **(extra or {}),
            "labels": self.labels,
            "subject_offsets": self.subject_offsets,
            "centres": self.centres,
        }
        metadata = {
            "schema_version": _SCHEMA_VERSION,
            "subjects": json.dumps(self.subjects),
            "embedding_hash": self.embedding_hash,
        }
        with replacing(path) as temporary:
            save_file(arrays, temporary, metadata)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is another kind of file.
        """
        path = existing(Path(path), "clusters (clusters.safetensors)")
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                return cls(
                    labels=file.get_tensor("labels"),
                    subject_offsets=file.get_tensor("subject_offsets"),
                    subjects=tuple(json.loads(metadata["subjects"])),
                    centres=file.get_tensor("centres"),
                    embedding_hash=metadata["embedding_hash"],
                )
        except (SafetensorError, KeyError) as error:
            raise ValueError(f"{path}: holds no voxel clusters ({error})") from error


def fit_clusters(
    embeddings: Mapping[str, ArrayLike], n_clusters: int, seed: int, regularisation: float = 1e-4
) -> VoxelClusters:
    """Cluster the voxels of all subjects together by what they respond to.

    Embeddings are scaled to unit length; a mixture of `n_clusters` full-covariance Gaussians is
    fitted; each voxel gets its most likely component (Brain-IT sec. 3; K = 128 there).

    Args:
        embeddings: subject name -> [N_s, E] voxel embeddings of the encoder.
        n_clusters: K.
        seed: Of the mixture's start.
        regularisation: See `fit_mixture`.

    Raises:
        ValueError: if there is no subject, or an embedding is zero or not finite.
    """
    if not embeddings:
        raise ValueError("embeddings are empty, expected at least one subject")
    parts = {name: unit(values, name) for name, values in embeddings.items()}
    points = np.concatenate(list(parts.values()))
    with warnings.catch_warnings():
        # The labels settle long before the likelihood does to scikit-learn's tolerance.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture = fit_mixture(points, n_clusters, seed, regularisation)
    return VoxelClusters(
        labels=mixture.predict(points).astype(np.int32),
        subject_offsets=np.cumsum([0, *map(len, parts.values())]).astype(np.int64),
        subjects=tuple(parts),
        centres=mixture.means_.astype(np.float32),
        embedding_hash=hash_of(points),
    )


def purity(labels: ArrayLike, areas: ArrayLike) -> float:
    """Share of voxels that lie in the commonest area of their cluster, in (0, 1].

    Args:
        labels: int [n] clusters.
        areas: int [n] areas of any coding.

    Raises:
        ValueError: if the lengths differ or are zero.
    """
    clusters, where = np.asarray(labels), np.asarray(areas)
    if clusters.shape != where.shape or clusters.ndim != 1 or not clusters.size:
        raise ValueError(f"labels {clusters.shape} and areas {where.shape} must both be [n >= 1]")
    _, rows = np.unique(clusters, return_inverse=True)
    _, columns = np.unique(where, return_inverse=True)
    table = np.zeros((rows.max() + 1, columns.max() + 1), np.int64)
    np.add.at(table, (rows, columns), 1)
    return float(table.max(axis=1).sum() / clusters.size)


def subjects_per_cluster(clusters: VoxelClusters) -> NDArray[np.int64]:
    """How many subjects have a voxel in each cluster: [K]."""
    counts: NDArray[np.int64] = np.count_nonzero(clusters.composition(), axis=1)
    return counts


def unit(embeddings: ArrayLike, name: str = "embeddings") -> NDArray[np.float32]:
    """Scale rows to unit length: float32 [n, E].

    Raises:
        ValueError: if a row is zero or not finite.
    """
    values = np.asarray(embeddings, np.float32)
    if values.ndim != 2:
        raise ValueError(f"{name}: shape {values.shape}, expected [n_voxels, E]")
    length = np.linalg.norm(values, axis=1, keepdims=True)
    if not (np.isfinite(length) & (length > 0)).all():
        raise ValueError(f"{name}: an embedding is zero or not finite")
    scaled: NDArray[np.float32] = values / length
    return scaled


def hash_of(points: NDArray[np.float32]) -> str:
    """SHA-256 of unit-length embeddings [N, E], as kept in `VoxelClusters.embedding_hash`."""
    return hashlib.sha256(np.ascontiguousarray(points).tobytes()).hexdigest()
