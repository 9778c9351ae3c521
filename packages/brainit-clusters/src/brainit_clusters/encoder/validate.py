"""How near the encoder comes to what noise allows, voxel by voxel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from brainit_clusters.data.dataset import BrainDataset
from brainit_clusters.encoder.model import BrainEncoder
from brainit_clusters.encoder.predict import predict_responses
from brainit_clusters.encoder.score import fraction_of_ceiling, voxel_correlation


class VoxelScores(NamedTuple):
    """Scores of one subject's voxels.

    Attributes:
        correlation: [N_s], of predicted with measured responses over the images.
        fraction: [N_s], of the highest correlation that noise allows; NaN for voxels with hardly
            any signal.
    """

    correlation: NDArray[np.float64]
    fraction: NDArray[np.float64]


def validate_encoder(
    encoder: BrainEncoder,
    dataset: BrainDataset,
    split: str = "val",
    subjects: Sequence[str] | None = None,
    progress: bool = False,
) -> dict[str, VoxelScores]:
    """Scores of every voxel on images that were not fitted.

    A dataset's noise ceilings hold for the repeats that all its images have on average; here they
    are brought to those of the split's images.

    Args:
        encoder: Knows the subjects.
        dataset: Images, betas and noise ceilings.
        split: "val" or "test".
        subjects: Names; None for all of the dataset.
        progress: Show progress bars.
    """
    scores = {}
    for name in dataset.subjects if subjects is None else subjects:
        subject = dataset.subject(name)
        rows = subject.rows(split)
        images = dataset.images(subject.image_id[rows])
        predicted = predict_responses(encoder, images, name, progress=progress, label="validate")
        correlation = voxel_correlation(predicted, subject.betas[rows])
        ceiling = _ceiling_of(subject.noise_ceiling, subject.repeats, subject.repeats[rows])
        fraction = fraction_of_ceiling(correlation, ceiling)
        scores[name] = VoxelScores(correlation, fraction)
    return scores


def _ceiling_of(
    ceiling: NDArray[np.float32], repeats: NDArray[np.int16], shown: NDArray[np.int16]
) -> NDArray[np.float64]:
    """Noise ceilings for images shown so often, from those for images shown `repeats` times."""
    share = ceiling.astype(np.float64)
    noise = (1 - share) * np.mean(1 / shown) / np.mean(1 / repeats)
    ceilings: NDArray[np.float64] = share / (share + noise)
    return ceilings
