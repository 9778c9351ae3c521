"""Symmetric InfoNCE with the whole logit matrix in memory."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def info_nce_reference(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean of the cross-entropies along rows and columns of ``predicted @ target.T``.

    Args:
        predicted: [M, D].
        target: [M, D]; row i belongs to row i of `predicted`.

    Returns:
        Scalar loss.
    """
    logits = predicted @ target.T
    own = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
