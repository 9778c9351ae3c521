"""Groups of voxels by where they lie alone: what functional clusters are held against."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from brainit.run_folder import RunFolder
from brainit_clusters.analysis import coordinate_clusters
from brainit_clusters.clusters import VoxelClusters, hash_of, unit
from brainit_clusters.data.dataset import BrainDataset
from brainit_clusters.meshes import at_vertices, load_vertices

APART = 400.0
"""Millimetres between the centres of both registration spheres, whose radius is 100."""


def by_place(
    run: RunFolder, embeddings: Mapping[str, NDArray[np.float32]], n_clusters: int, seed: int
) -> VoxelClusters:
    """k-means of the voxels' places on the registration sphere, all subjects together.

    The groups still say which embeddings belong to them, so that a new subject's voxels, too, go
    where their nearest neighbours are.

    Args:
        run: Holds the dataset, which is on fsaverage.
        embeddings: Subject -> [N_s, E].
        n_clusters: K.
        seed: Of k-means.

    Raises:
        ValueError: Voxels are not vertices of a mesh.
    """
    with BrainDataset.open(run.output("prepare", "dataset")) as dataset:
        sides = _spheres(dataset.attributes.get("n_vertices_per_hemisphere"))
        places = {name: at_vertices(dataset.subject(name), sides) for name in embeddings}
    labels = np.concatenate(list(coordinate_clusters(places, n_clusters, seed).values()))
    points = np.concatenate([unit(embeddings[name], name) for name in places])
    sums = np.zeros((n_clusters, points.shape[1]), np.float64)
    np.add.at(sums, labels, points)
    counts = np.bincount(labels, minlength=n_clusters)[:, None]
    return VoxelClusters(
        labels=labels,
        subject_offsets=np.cumsum([0, *map(len, places.values())]).astype(np.int64),
        subjects=tuple(places),
        centres=(sums / np.maximum(counts, 1)).astype(np.float32),
        embedding_hash=hash_of(points),
    )


def _spheres(n_vertices: int | None) -> list[NDArray[np.float64]]:
    """Both hemispheres' registration spheres, apart; nilearn fetches those of fine meshes."""
    from nilearn.datasets import fetch_surf_fsaverage

    names = {10_242: "fsaverage5", 40_962: "fsaverage6", 163_842: "fsaverage"}
    if n_vertices not in names:
        raise ValueError("clusters.kind is 'anatomical': expected voxels that lie on fsaverage")
    mesh = fetch_surf_fsaverage(names[n_vertices])
    left, right = (load_vertices(mesh[f"sphere_{side}"]) for side in ("left", "right"))
    shift = np.array([APART / 2, 0, 0])
    return [left - shift, right + shift]
