"""Groupings of voxels side by side, on the same footing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainit_clusters.analysis._labels import Labels, by_subject
from brainit_clusters.analysis.agreement import agreement
from brainit_clusters.analysis.baselines import coordinate_clusters, homogeneity, kmeans_clusters
from brainit_clusters.analysis.composition import composition
from brainit_clusters.clusters import VoxelClusters, fit_clusters
from brainit_clusters.data.record import SubjectData
from brainit_clusters.meshes import at_vertices

Grouping: TypeAlias = Labels | Callable[[int], Labels]
"""Labels, or what makes them from a seed."""


@dataclass(frozen=True)
class GroupingScores:
    """One row of the comparison; NaN where a value cannot be had.

    Attributes:
        name: Of the grouping.
        n_groups: Groups that have voxels.
        homogeneity: Mean correlation, over test images, of a voxel with its group's others.
        agreement: Adjusted Rand index with the reference labelling.
        stability: Adjusted Rand index between two seeds; NaN for labels that are given.
        effective_subjects: Mean over groups of how many subjects make one up, from 1 to S.
    """

    name: str
    n_groups: int
    homogeneity: float
    agreement: float
    stability: float
    effective_subjects: float


def compare_groupings(
    groupings: Mapping[str, Grouping],
    subjects: Sequence[SubjectData],
    reference: Labels | None = None,
    seeds: tuple[int, int] = (0, 1),
) -> list[GroupingScores]:
    """Score every grouping in the same way, in the order given.

    Homogeneity falls as groups grow: read it beside `n_groups`, and `random` as its floor.

    Args:
        groupings: Name -> labels of all subjects, or a function of a seed that makes them
            (`standard_groupings`).
        subjects: All subjects of the labels.
        reference: What to agree with, such as an atlas or a simulation's truth.
        seeds: A function is called with both; the first one's labels are scored.

    Raises:
        ValueError: if labels are not of these subjects' voxels.
    """
    hemisphere = {subject.name: subject.hemisphere.astype(np.int64) for subject in subjects}
    tested = [subject for subject in subjects if len(subject.rows("test")) > 1]
    rows = []
    for name, grouping in groupings.items():
        labels = grouping(seeds[0]) if callable(grouping) else grouping
        again = grouping(seeds[1]) if callable(grouping) else None
        shares = composition(labels, hemisphere).effective_subjects
        rows.append(
            GroupingScores(
                name=name,
                n_groups=int(np.count_nonzero(shares)),
                homogeneity=homogeneity(labels, tested).mean if tested else np.nan,
                agreement=agreement(labels, reference).adjusted_rand if reference else np.nan,
                stability=agreement(labels, again).adjusted_rand if again else np.nan,
                effective_subjects=float(shares[shares > 0].mean()),
            )
        )
    return rows


def standard_groupings(
    clusters: VoxelClusters,
    subjects: Sequence[SubjectData],
    embeddings: Mapping[str, ArrayLike] | None = None,
    coordinates: Mapping[str, ArrayLike] | None = None,
) -> dict[str, Grouping]:
    """The clusters and what they should be better than, of as many groups where there is a choice.

    Args:
        clusters: Functional clusters of these subjects.
        subjects: Whose atlases, where all have one, are groupings too.
        embeddings: What the clusters were fitted on: adds k-means, and the clusters' stability.
        coordinates: Subject -> [N_s, 3] (`voxel_coordinates`): adds clusters of places alone.

    Returns:
        Groupings for `compare_groupings`: "functional clusters", "k-means", "anatomical",
        "random" (the clusters' sizes, voxels permuted within subjects) and the atlases' names.
    """
    k = clusters.n_clusters
    found: dict[str, Grouping] = {"functional clusters": clusters}
    if embeddings is not None:
        # The given clusters may be of any seed: they are scored, and a new fit is compared.
        found["functional clusters"] = lambda seed: (
            clusters if seed == 0 else fit_clusters(embeddings, k, seed)
        )
        found["k-means"] = lambda seed: kmeans_clusters(embeddings, k, seed)
    if coordinates is not None:
        found["anatomical"] = lambda seed: coordinate_clusters(coordinates, k, seed)
    for atlas in subjects[0].roi:
        if all(atlas in s.roi and s.roi[atlas].min(initial=0) >= 0 for s in subjects):
            found[atlas] = {subject.name: subject.roi[atlas] for subject in subjects}
    found["random"] = lambda seed: _shuffled(clusters, seed)
    return found


def voxel_coordinates(
    subject: SubjectData, meshes: Sequence[ArrayLike] | None = None
) -> NDArray[np.float64]:
    """Where a subject's voxels lie: [N_s, 3], millimetres.

    Args:
        subject: On a mesh or in a volume.
        meshes: Vertices of the left and the right white surface (`load_vertices`,
            `fsaverage5_vertices`), needed on a mesh.

    Raises:
        ValueError: if the place is not known, or a voxel is not a vertex of the meshes.
    """
    if subject.ijk is not None and subject.affine is not None:
        places: NDArray[np.float64] = subject.ijk @ subject.affine[:3, :3].T + subject.affine[:3, 3]
        return places
    if meshes is None:
        raise ValueError(f"{subject.name}: where its voxels lie is not known, expected meshes")
    return at_vertices(subject, [np.asarray(mesh, np.float64) for mesh in meshes])


def _shuffled(labels: Labels, seed: int) -> dict[str, NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    return {name: rng.permutation(values) for name, values in by_subject(labels).items()}
