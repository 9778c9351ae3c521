"""Contrastive losses of the low-level branch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist

from brainit_bit.ops.info_nce import info_nce

__all__ = ["info_nce", "multi_scale_info_nce"]


def multi_scale_info_nce(
    predicted: Tensor,
    target: Tensor,
    levels: Tensor,
    *,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """Mean over feature levels of the symmetric InfoNCE inside each level.

    Within a level the tokens of all images stand against each other (Brain-IT,
    arXiv 2510.25976, low-level branch).

    Args:
        predicted: Predicted tokens, [B, Q, D].
        target: True tokens, [B, Q, D].
        levels: Level of every token, int64 [Q].
        group: Processes whose images stand together against each other, with the same B and levels
            in each (see `info_nce` for its gradients); None means this process alone.

    Returns:
        Scalar loss.

    Raises:
        ValueError: If shapes disagree.
    """
    if predicted.ndim != 3 or predicted.shape != target.shape:
        raise ValueError(
            "multi_scale_info_nce: expected predicted and target of one shape [B, Q, D], "
            f"got {list(predicted.shape)} and {list(target.shape)}"
        )
    if levels.shape != predicted.shape[1:2]:
        raise ValueError(
            f"levels: expected [{predicted.shape[1]}], one level a token, got {list(levels.shape)}"
        )
    losses = []
    for level in levels.unique():
        chosen = (levels == level).nonzero()[:, 0]
        rows = predicted[:, chosen].flatten(0, 1), target[:, chosen].flatten(0, 1)
        losses.append(info_nce(*rows, group=group))
    return torch.stack(losses).mean()
