"""Symmetric InfoNCE: the public form, which checks its arguments."""

from __future__ import annotations

import torch
from torch import Tensor

from brainit_bit.ops.info_nce.cpu import symmetric_info_nce


def info_nce(predicted: Tensor, target: Tensor) -> Tensor:
    """Symmetric InfoNCE with plain dot products and temperature 1.

    The mean of two cross-entropies, of every predicted row among all targets and of every target
    among all predicted rows (Brain-IT, arXiv 2510.25976, low-level branch). The logits are formed
    in tiles, so that memory is linear in M.

    Args:
        predicted: Predicted features, [M, D].
        target: True features, [M, D]; row i belongs to row i of `predicted`.

    Returns:
        Scalar loss, fp32 (fp64 for fp64 input).

    Raises:
        ValueError: If the shapes are not one and the same [M, D] with M >= 1.
    """
    if predicted.ndim != 2 or predicted.shape != target.shape or len(predicted) == 0:
        raise ValueError(
            "info_nce: expected predicted and target of one shape [M, D] with M >= 1, "
            f"got {list(predicted.shape)} and {list(target.shape)}"
        )
    dtype = torch.promote_types(torch.promote_types(predicted.dtype, target.dtype), torch.float32)
    with torch.autocast(predicted.device.type, enabled=False):
        return symmetric_info_nce(predicted.to(dtype), target.to(dtype))
