"""What there is to say about clusters at a glance, alone or with the dataset of their voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainit_clusters.analysis.agreement import agreement
from brainit_clusters.analysis.baselines import homogeneity
from brainit_clusters.analysis.composition import composition
from brainit_clusters.analysis.enrichment import roi_enrichment
from brainit_clusters.clusters import VoxelClusters, purity, subjects_per_cluster
from brainit_clusters.data.dataset import BrainDataset, SubjectData

LEVEL = 0.05


def summarise(clusters: VoxelClusters, dataset: BrainDataset | None = None) -> dict[str, Any]:
    """Describe clusters in JSON values.

    Args:
        clusters: Of voxels in the dataset's order.
        dataset: Adds hemispheres, homogeneity of the test responses, and for each atlas that all
            subjects have: agreement, purity and enriched regions (1,000 permutations within
            subjects, Benjamini-Hochberg, level 0.05).

    Returns:
        `n_clusters`, `subjects` (voxels of each), `size` [K], `subjects_per_cluster` [K], and with
        a dataset `effective_subjects` [K], `left_share` [K], `homogeneity` and `atlases`.

    Raises:
        ValueError: if the dataset lacks a subject or has another number of its voxels.
    """
    counts = clusters.composition()
    summary: dict[str, Any] = {
        "n_clusters": clusters.n_clusters,
        "subjects": dict(zip(clusters.subjects, counts.sum(axis=0).tolist(), strict=True)),
        "size": counts.sum(axis=1),
        "subjects_per_cluster": subjects_per_cluster(clusters),
    }
    if dataset is not None:
        subjects = [_subject(clusters, dataset, name) for name in clusters.subjects]
        made_of = composition(clusters, {s.name: s.hemisphere for s in subjects})
        summary["effective_subjects"] = made_of.effective_subjects
        summary["left_share"] = made_of.left_share
        tested = [s for s in subjects if len(s.rows("test")) > 1]
        if tested:
            summary["homogeneity"] = homogeneity(clusters, tested).mean
        summary["atlases"] = {
            atlas: _atlas(clusters, subjects, atlas)
            for atlas in subjects[0].roi
            if all(atlas in s.roi and s.roi[atlas].min(initial=0) >= 0 for s in subjects)
        }
    return summary


def _subject(clusters: VoxelClusters, dataset: BrainDataset, name: str) -> SubjectData:
    subject = dataset.subject(name)
    if subject.n_voxels != len(clusters.labels_of(name)):
        raise ValueError(
            f"{dataset.path}: {name} has {subject.n_voxels} voxels, "
            f"the clusters have {len(clusters.labels_of(name))}"
        )
    return subject


def _atlas(clusters: VoxelClusters, subjects: list[SubjectData], atlas: str) -> dict[str, Any]:
    regions = {subject.name: subject.roi[atlas] for subject in subjects}
    codes = np.concatenate(list(regions.values()))
    same = agreement(clusters, regions)
    found: dict[str, Any] = {
        "adjusted_rand": same.adjusted_rand,
        "adjusted_mutual_information": same.adjusted_mutual_information,
        "purity": purity(clusters.labels, codes),
        "enriched": [],
    }
    if codes.any():
        found["enriched"] = _enriched(clusters, regions, subjects[0].roi_labels.get(atlas, {}))
    return found


def _enriched(
    clusters: VoxelClusters, regions: dict[str, NDArray[np.int32]], names: Any
) -> list[dict[str, Any]]:
    """Pairs of cluster and region that pass, most alike first."""
    result = roi_enrichment(clusters, regions)
    passed = np.argwhere(result.adjusted_p <= LEVEL)
    order = np.argsort([-result.dice[k, r] for k, r in passed], kind="stable")
    return [
        {
            "cluster": int(k),
            "region": names.get(int(result.regions[r]), str(result.regions[r])),
            "voxels": int(result.overlap[k, r]),
            "expected": float(result.expected[k, r]),
            "dice": float(result.dice[k, r]),
            "adjusted_p": float(result.adjusted_p[k, r]),
        }
        for k, r in passed[order]
    ]
