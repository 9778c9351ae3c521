"""Rows gathered across processes, with gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class _GatherRows(Function):
    """All-gather along the first axis; backward sums what every process asks of these rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group, ctx.n_rows = group, len(rows)
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size(group))]
        dist.all_gather(parts, rows.contiguous(), group=group)
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        # A reduce-scatter would send half as much, but not every backend of torch has one.
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad, group=ctx.group)
        return grad.split(ctx.n_rows)[dist.get_rank(ctx.group)], None


def gather_rows(rows: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Join the rows of all processes of a group, in the order of their ranks, with gradients.

    Args:
        rows: [M, ...], the same shape in every process.
        group: The processes.

    Returns:
        [W M, ...].
    """
    gathered: Tensor = _GatherRows.apply(rows, group)
    return gathered


def mean_over(value: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Mean of `value` over a group's processes, without gradient."""
    total = value.detach().clone()
    dist.all_reduce(total, group=group)
    return total / dist.get_world_size(group)


def check_same_shape(rows: Tensor, group: dist.ProcessGroup) -> None:
    """Refuse [M, D] whose M or D differs between the processes of a group.

    Raises:
        ValueError: In every process, if it does.
    """
    shape = torch.tensor(rows.shape, device=rows.device)
    shapes = [torch.empty_like(shape) for _ in range(dist.get_world_size(group))]
    dist.all_gather(shapes, shape, group=group)
    if any(not torch.equal(other, shape) for other in shapes):
        raise ValueError(
            "info_nce: expected rows of one shape in every process of the group, "
            f"got {[other.tolist() for other in shapes]}"
        )
