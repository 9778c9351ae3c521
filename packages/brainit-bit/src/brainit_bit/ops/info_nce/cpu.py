"""Symmetric InfoNCE by tiles of logit rows: memory linear in the number of rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

ROWS_PER_TILE = 128  # a tile of some thousand columns stays in the cache
SAFE_RANGE = 80.0  # exp(-80) is a normal number in fp32


def _log_sum_exps(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Log-sum-exp of every row and every column of ``predicted @ target.T``, two [M]."""
    rows = []
    columns = predicted.new_full((len(target),), -torch.inf)
    for part in predicted.split(ROWS_PER_TILE):
        along_rows, along_columns = _tile_log_sum_exps(part @ target.T)
        rows.append(along_rows)
        columns = torch.logaddexp(columns, along_columns)
    return torch.cat(rows), columns


def _tile_log_sum_exps(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Log-sum-exps of a tile; one exponential serves both where its logits are close enough."""
    low, high = logits.aminmax()
    if high - low > SAFE_RANGE:
        return logits.logsumexp(1), logits.logsumexp(0)
    exponentials = logits.sub_(high).exp_()
    return exponentials.sum(1).log_() + high, exponentials.sum(0).log_() + high


class _SymmetricInfoNCE(Function):
    """Forward keeps two log-sum-exps; backward forms every tile of logits a second time."""

    @staticmethod
    def forward(ctx: Any, predicted: Tensor, target: Tensor) -> Tensor:
        rows, columns = _log_sum_exps(predicted, target)
        ctx.save_for_backward(predicted, target, rows, columns)
        loss: Tensor = (rows + columns).mean() / 2 - (predicted * target).sum(1).mean()
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        predicted, target, rows, columns = ctx.saved_tensors
        half = grad / (2 * len(predicted))
        # The positives' share, -grad/M on the diagonal, never needs a tile.
        grad_predicted = target * (-2 * half)
        grad_target = predicted * (-2 * half) if ctx.needs_input_grad[1] else None
        for start in range(0, len(predicted), ROWS_PER_TILE):
            tile = slice(start, start + ROWS_PER_TILE)
            logits = predicted[tile] @ target.T
            share = (logits - columns).exp_()
            share += logits.sub_(rows[tile, None]).exp_()
            grad_predicted[tile] += (share @ target) * half
            if grad_target is not None:
                grad_target += (share.T @ predicted[tile]) * half
        return grad_predicted, grad_target


def symmetric_info_nce(predicted: Tensor, target: Tensor) -> Tensor:
    """Symmetric InfoNCE of [M, D] against [M, D]; see `info_nce`."""
    loss: Tensor = _SymmetricInfoNCE.apply(predicted, target)
    return loss
