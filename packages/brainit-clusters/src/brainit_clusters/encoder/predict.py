"""Predicted responses of every voxel to many images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from brainit_clusters.data.external import ExternalResponses, write_external
from brainit_clusters.encoder.model import BrainEncoder
from brainit_clusters.encoder.tap import FoldedTap

__all__ = ["ExternalResponses", "predict_responses", "predict_subjects", "write_external"]

_VOXEL_BLOCK = 2048


def predict_responses(
    encoder: BrainEncoder,
    images: NDArray[np.uint8] | Tensor,
    subject: str,
    batch_size: int = 32,
    progress: bool = False,
) -> NDArray[np.float16]:
    """Responses of all voxels of one subject: float16 [n, N_s]; see `predict_subjects`."""
    return predict_subjects(encoder, images, [subject], batch_size, progress)[subject]


@torch.inference_mode()
def predict_subjects(
    encoder: BrainEncoder,
    images: NDArray[np.uint8] | Tensor,
    subjects: Sequence[str],
    batch_size: int = 32,
    progress: bool = False,
) -> dict[str, NDArray[np.float16]]:
    """Responses of all voxels of several subjects to the same images.

    An image goes through the backbone once; voxels are folded once and read in blocks. Runs where
    the encoder is, under the autocast of the caller; the encoder's mode is restored afterwards.

    Args:
        encoder: The encoder.
        images: uint8 [n, H, W, 3], or float [n, 3, H, W] in [0, 1].
        subjects: Names.
        batch_size: Images at a time.
        progress: Show a progress bar.

    Returns:
        name -> float16 [n, N_s].
    """
    was_training, device = encoder.training, encoder.readout_weight.device
    encoder.eval()
    folded = {name: _fold_blocks(encoder, name) for name in subjects}
    results = {
        name: np.empty((len(images), len(encoder.voxel_embedding(name))), np.float16)
        for name in subjects
    }
    starts = range(0, len(images), batch_size)
    for start in tqdm(starts, desc="predict", unit="batch", disable=not progress):
        batch = to_float(images[start : start + batch_size]).to(device)
        features = encoder.features(batch)
        for name, blocks in folded.items():
            responses = torch.cat([encoder.read(features, block) for block in blocks], dim=1)
            results[name][start : start + batch_size] = responses.half().cpu().numpy()
    encoder.train(was_training)
    return results


def to_float(images: NDArray[np.uint8] | Tensor) -> Tensor:
    """uint8 [n, H, W, 3] to float32 [n, 3, H, W] in [0, 1]; a float tensor stays as it is."""
    if isinstance(images, Tensor):
        return images
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255


def _fold_blocks(encoder: BrainEncoder, subject: str) -> list[list[FoldedTap]]:
    embedding = encoder.voxel_embedding(subject)
    indices = torch.arange(len(embedding), device=embedding.device)
    return [encoder.fold(subject, block) for block in indices.split(_VOXEL_BLOCK)]
