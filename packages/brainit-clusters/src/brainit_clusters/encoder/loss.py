"""The encoder's loss (Universal Brain Encoder, arXiv 2406.12179; Brain-IT, arXiv 2510.25976)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def encoder_loss(predicted: Tensor, measured: Tensor, cosine_weight: float = 0.1) -> Tensor:
    """Mean squared error less 0.1 times the cosine similarity along the voxels.

    Args:
        predicted: [B, V].
        measured: [B, V].
        cosine_weight: Weight of the mean cosine.

    Returns:
        A scalar.

    Raises:
        ValueError: if the shapes differ.
    """
    if predicted.shape != measured.shape or predicted.ndim != 2:
        raise ValueError(
            f"predicted {tuple(predicted.shape)} and measured {tuple(measured.shape)} "
            "must both be [B, V]"
        )
    similarity = F.cosine_similarity(predicted, measured, dim=1).mean()
    return F.mse_loss(predicted, measured) - cosine_weight * similarity
