"""Do a cluster's voxels lie together on the cortical mesh?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from brainit_clusters.analysis._labels import whole
from brainit_clusters.analysis.significance import permutation_p


@dataclass(frozen=True, eq=False)
class Compactness:
    """How often neighbours on one subject's mesh share a cluster.

    Attributes:
        n_edges: Mesh edges with both ends among the voxels.
        same: Share of these edges whose ends share a cluster, in [0, 1].
        control: float64 [n_permutations], the same with labels permuted within each hemisphere.
        p: One-sided (more than the control), at least 1 / (1 + n_permutations).
        n_patches: int64 [K], connected patches of each cluster, both hemispheres together.
        largest_patch: float64 [K], share of a cluster's voxels in its largest patch, in (0, 1];
            NaN for an empty cluster.
    """

    n_edges: int
    same: float
    control: NDArray[np.float64]
    p: float
    n_patches: NDArray[np.int64]
    largest_patch: NDArray[np.float64]


def spatial_compactness(
    labels: ArrayLike,
    vertex: ArrayLike,
    hemisphere: ArrayLike,
    triangles: ArrayLike,
    n_permutations: int = 1000,
    seed: int = 0,
) -> Compactness:
    """Compare how often mesh neighbours share a cluster with permuted labels.

    Args:
        labels: int [N], clusters of one subject's voxels.
        vertex: int [N], their vertices in the mesh (`SubjectData.vertex`).
        hemisphere: [N], 0 left, 1 right (`SubjectData.hemisphere`).
        triangles: int [T, 3], vertices of the mesh's triangles. The hemispheres of fsaverage have
            the same neighbours, so one array serves both.
        n_permutations: Number of permuted controls.
        seed: Of the permutations.

    Raises:
        ValueError: if lengths differ, a vertex is not in the mesh or comes twice, or no two
            voxels are neighbours.
    """
    ours, vertices = whole(labels, "labels"), whole(vertex, "vertex")
    sides = whole(hemisphere, "hemisphere")
    if not len(ours) == len(vertices) == len(sides) or n_permutations < 1:
        raise ValueError(
            f"{len(ours)} labels, {len(vertices)} vertices, {len(sides)} hemispheres and "
            f"{n_permutations} permutations: expected the same numbers and a permutation"
        )
    if sides.max(initial=0) > 1:
        raise ValueError(f"hemisphere holds {sides.max()}, expected 0 left or 1 right: a mesh")
    edges = _voxel_edges(vertices, sides, mesh_edges(triangles))
    same = int(np.count_nonzero(ours[edges[:, 0]] == ours[edges[:, 1]]))
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(sides == side) for side in np.unique(sides)]
    counts = np.empty(n_permutations, np.int64)
    shuffled = ours.copy()
    for index in range(n_permutations):
        for group in groups:
            shuffled[group] = rng.permutation(ours[group])
        counts[index] = np.count_nonzero(shuffled[edges[:, 0]] == shuffled[edges[:, 1]])
    p = permutation_p(np.count_nonzero(counts >= same), n_permutations)
    return Compactness(
        len(edges), same / len(edges), counts / len(edges), float(p), *_patches(ours, edges)
    )


def mesh_edges(triangles: ArrayLike) -> NDArray[np.int64]:
    """Give each edge of a mesh once: int64 [n, 2], the smaller vertex first.

    Args:
        triangles: int [T, 3].

    Raises:
        ValueError: if these are not triangles.
    """
    corners = np.asarray(triangles)
    if corners.ndim != 2 or corners.shape[1] != 3 or not np.issubdtype(corners.dtype, np.integer):
        raise ValueError(f"triangles: {corners.dtype} {corners.shape}, expected integers [T, 3]")
    pairs = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [0, 2]]])
    edges: NDArray[np.int64] = np.unique(np.sort(pairs, axis=1), axis=0).astype(np.int64)
    return edges


def _voxel_edges(
    vertices: NDArray[np.int64], sides: NDArray[np.int64], edges: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Edges between voxels, as voxel indices: [n >= 1, 2]."""
    n_vertices = int(edges.max(initial=-1)) + 1
    if vertices.max(initial=-1) >= n_vertices:
        raise ValueError(f"vertex {vertices.max()} is not in the mesh of {n_vertices} vertices")
    found = [np.empty((0, 2), np.int64)]
    for side in np.unique(sides):
        voxels = np.flatnonzero(sides == side)
        place = np.full(n_vertices, -1, np.int64)
        place[vertices[voxels]] = voxels
        if np.count_nonzero(place >= 0) < len(voxels):
            raise ValueError(f"a vertex of hemisphere {side} comes twice; expected one subject")
        ends = place[edges]
        found.append(ends[(ends >= 0).all(axis=1)])
    joined = np.concatenate(found)
    if not len(joined):
        raise ValueError("no two voxels are neighbours on the mesh")
    return joined


def _patches(
    labels: NDArray[np.int64], edges: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Connected patches of each cluster, and the share of the largest."""
    inside = edges[labels[edges[:, 0]] == labels[edges[:, 1]]]
    ones = np.ones(len(inside), np.int8)
    graph = coo_array((ones, (inside[:, 0], inside[:, 1])), shape=(len(labels),) * 2)
    n_patches, patch = connected_components(graph, directed=False)
    owner = np.empty(n_patches, np.int64)
    owner[patch] = labels
    n_clusters = int(labels.max()) + 1
    largest = np.zeros(n_clusters)
    np.maximum.at(largest, owner, np.bincount(patch))
    size = np.bincount(labels, minlength=n_clusters)
    share = np.divide(largest, size, out=np.full(n_clusters, np.nan), where=size > 0)
    return np.bincount(owner, minlength=n_clusters).astype(np.int64), share
