"""What a cluster likes: the images it responds to most, and the labels of such images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainit_clusters.analysis._labels import Labels, by_subject, n_labels
from brainit_clusters.analysis.significance import Correction, corrected, permutation_p
from brainit_clusters.data.record import SubjectData


@dataclass(frozen=True, eq=False)
class ClusterResponses:
    """Mean responses of clusters to training images.

    Attributes:
        image_id: int64 [n], ascending.
        response: float64 [n, K], z-scored over each subject's training images, then averaged over
            the subjects who saw the image; NaN where none of these has a voxel in the cluster.
    """

    image_id: NDArray[np.int64]
    response: NDArray[np.float64]

    def top(self, n_images: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Images that each cluster responds to most.

        Args:
            n_images: How many a cluster.

        Returns:
            Image ids, int64 [K, n_images], strongest first, -1 where there are fewer; and their
            responses, float64 [K, n_images], NaN there.

        Raises:
            ValueError: if `n_images` is not in [1, n].
        """
        if not 1 <= n_images <= len(self.image_id):
            raise ValueError(f"n_images is {n_images}, expected 1 to {len(self.image_id)}")
        order = np.argsort(-self.response, axis=0, kind="stable")[:n_images]  # NaN sorts last
        values = np.take_along_axis(self.response, order, axis=0).T
        return np.where(np.isnan(values), -1, self.image_id[order].T), values


def cluster_responses(labels: Labels, subjects: Sequence[SubjectData]) -> ClusterResponses:
    """Average the voxels of each cluster, on training images alone.

    Args:
        labels: Clusters, or subject -> int [N_s].
        subjects: Responses of subjects among those of `labels`.

    Raises:
        ValueError: if a subject is unknown, has other voxels, or fewer than two training images.
    """
    known, k = by_subject(labels), n_labels(labels)
    if not subjects:
        raise ValueError("no subjects, expected at least one")
    ids = [subject.image_id[subject.rows("train")] for subject in subjects]
    together = np.unique(np.concatenate(ids)).astype(np.int64)
    total, seen = np.zeros((len(together), k)), np.zeros((len(together), k))
    for subject, own in zip(subjects, ids, strict=True):
        if subject.name not in known or len(known[subject.name]) != subject.n_voxels:
            raise ValueError(f"labels are not of the {subject.n_voxels} voxels of {subject.name}")
        response = _standardised(subject.betas[subject.rows("train")], known[subject.name], k)
        rows, here = np.searchsorted(together, own), np.isfinite(response)
        total[rows] += np.where(here, response, 0)
        seen[rows] += here
    with np.errstate(invalid="ignore"):
        return ClusterResponses(together, total / seen)


def _standardised(
    betas: NDArray[np.float32], labels: NDArray[np.int64], k: int
) -> NDArray[np.float64]:
    """Mean response of each cluster, z-scored over images: [n, K], NaN without voxels."""
    if len(betas) < 2:
        raise ValueError("a subject has fewer than two training images")
    order = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[order], return_index=True)
    mean = np.full((len(betas), k), np.nan)
    sums = np.add.reduceat(betas[:, order], starts, axis=1, dtype=np.float64)
    mean[:, present] = sums / np.bincount(labels)[present]
    with np.errstate(invalid="ignore"):
        result: NDArray[np.float64] = (mean - mean.mean(axis=0)) / mean.std(axis=0)
    return result


@dataclass(frozen=True, eq=False)
class Preference:
    """How much more K clusters respond to images with each of L labels than without.

    Attributes:
        difference: float64 [K, L], mean response with the label minus mean without, in the
            responses' unit.
        p: float64 [K, L], one-sided (more with the label), not corrected.
        adjusted_p: float64 [K, L], corrected for all K x L tests.
        correction: How: "holm" or "benjamini-hochberg".
        n_permutations: No p is below 1 / (1 + n_permutations).
    """

    difference: NDArray[np.float64]
    p: NDArray[np.float64]
    adjusted_p: NDArray[np.float64]
    correction: str
    n_permutations: int


def label_preference(
    response: ArrayLike,
    image_labels: ArrayLike,
    n_permutations: int = 1000,
    seed: int = 0,
    correction: Correction = "benjamini-hochberg",
) -> Preference:
    """Test which labels of the images go with a cluster's responses, by permuting images.

    Args:
        response: [n, K], such as `ClusterResponses.response`; a cluster with NaN is not tested.
        image_labels: bool [n, L], which labels (face, food, ...) each image bears.
        n_permutations: Number of permutations; labels of an image stay together.
        seed: Of the permutations.
        correction: "holm" or "benjamini-hochberg".

    Raises:
        ValueError: if shapes differ, or a label is on no image or on all.
    """
    values, bears = np.asarray(response, np.float64), np.asarray(image_labels)
    if values.ndim != 2 or bears.ndim != 2 or len(values) != len(bears) or bears.dtype != bool:
        raise ValueError(
            f"response {values.shape} and image_labels {bears.dtype} {bears.shape}: expected "
            "[n, K] and bool [n, L]"
        )
    count = bears.sum(axis=0)
    if n_permutations < 1 or not ((count > 0) & (count < len(bears))).all():
        raise ValueError("each label must be on some images and not on all; permutations >= 1")
    # Mean with minus mean without is one matrix product with these weights.
    weights = np.where(bears, 1 / count, -1 / (len(bears) - count))
    difference = values.T @ weights
    # Equal permutations differ by rounding: n terms of size |response| x weight, in float64.
    slack = 4 * np.finfo(np.float64).eps * (np.abs(values).T @ np.abs(weights))
    rng = np.random.default_rng(seed)
    at_least = np.zeros(difference.shape, np.int64)
    for _ in range(n_permutations):
        at_least += values.T @ rng.permutation(weights) >= difference - slack
    p = np.where(np.isnan(difference), np.nan, permutation_p(at_least, n_permutations))
    return Preference(difference, p, corrected(p, correction), correction, n_permutations)
