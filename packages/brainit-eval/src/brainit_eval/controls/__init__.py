"""Controls from a lab's own arrays: brains, pictures, clusters, recovery, overlap."""

from __future__ import annotations

from brainit_eval.controls.against import beats, recovery
from brainit_eval.controls.brains import (
    BRAIN_CONTROLS,
    mean_brain,
    noise_brain,
    shuffled_brains,
    wrong_subject,
)
from brainit_eval.controls.clusters import cluster_line, expected_two_way, within_clusters
from brainit_eval.controls.predictors import grey_images, mean_images, nearest_images

__all__ = [
    "BRAIN_CONTROLS",
    "beats",
    "cluster_line",
    "expected_two_way",
    "grey_images",
    "mean_brain",
    "mean_images",
    "nearest_images",
    "noise_brain",
    "recovery",
    "shuffled_brains",
    "within_clusters",
    "wrong_subject",
]
