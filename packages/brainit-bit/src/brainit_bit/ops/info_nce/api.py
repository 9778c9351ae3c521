"""Symmetric InfoNCE: the public form, which checks its arguments."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist

from brainit_bit.ops.info_nce import ops as _registered  # noqa: F401
from brainit_bit.ops.info_nce.distributed import check_same_shape, gather_rows, mean_over


def info_nce(
    predicted: Tensor, target: Tensor, *, group: dist.ProcessGroup | None = None
) -> Tensor:
    """Symmetric InfoNCE with plain dot products and temperature 1.

    The mean of two cross-entropies, of every predicted row among all targets and of every target
    among all predicted rows (Brain-IT, arXiv 2510.25976, low-level branch). The logits are formed
    in tiles, so that memory is linear in M. `predicted` and `target` take gradients, once.

    With a group of W processes, the rows of all of them stand against each other, W M in all, and
    each process forms one W-th of the logits. Every process gets the joint loss, with gradients
    scaled as DistributedDataParallel needs them: averaged over the processes, parameter gradients
    are those of the joint loss.

    Args:
        predicted: Predicted features, [M, D].
        target: True features, [M, D]; row i belongs to row i of `predicted`.
        group: Processes whose rows stand against each other, the same M and D in each; None means
            this process alone, ``torch.distributed.group.WORLD`` all of them.

    Returns:
        Scalar loss, fp32 (fp64 for fp64 input).

    Raises:
        ValueError: If the shapes are not one and the same [M, D] with M >= 1, in all processes.
    """
    if predicted.ndim != 2 or predicted.shape != target.shape or len(predicted) == 0:
        raise ValueError(
            "info_nce: expected predicted and target of one shape [M, D] with M >= 1, "
            f"got {list(predicted.shape)} and {list(target.shape)}"
        )
    dtype = torch.promote_types(torch.promote_types(predicted.dtype, target.dtype), torch.float32)
    predicted, target = predicted.to(dtype), target.to(dtype)
    if group is not None:
        return _across_processes(predicted, target, group)
    positives, rows, columns = torch.ops.brainit.info_nce(predicted, target, 0)
    loss: Tensor = (rows + columns).mean() / 2 - positives.mean()
    return loss


def _across_processes(predicted: Tensor, target: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Own predicted rows against the targets of all; only vectors complete the columns."""
    check_same_shape(predicted, group)
    n_rows, rank = len(predicted), dist.get_rank(group)
    first = rank * n_rows
    positives, rows, part = torch.ops.brainit.info_nce(predicted, gather_rows(target, group), first)
    columns = gather_rows(part[None], group)[:, first : first + n_rows].logsumexp(0)
    own: Tensor = (rows + columns).mean() / 2 - positives.mean()
    return own + (mean_over(own, group) - own.detach())
