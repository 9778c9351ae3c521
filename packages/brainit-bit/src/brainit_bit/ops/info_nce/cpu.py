"""Log-sum-exps of a logit matrix by tiles of its rows: plain torch on BLAS, any device."""

from __future__ import annotations

import torch
from torch import Tensor

ROWS_PER_TILE = 128  # a tile of some thousand columns stays in the cache
SAFE_RANGE = 80.0  # exp(-80) is a normal number in fp32


def info_nce(predicted: Tensor, target: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor]:
    """Positive logits and the log-sum-exps of all rows and columns; see `ops`."""
    with torch.autocast(predicted.device.type, enabled=False):
        positives = (predicted * target[first : first + len(predicted)]).sum(1)
        rows = []
        columns = predicted.new_full((len(target),), -torch.inf)
        for part in predicted.split(ROWS_PER_TILE):
            along_rows, along_columns = _tile_log_sum_exps(part @ target.T)
            rows.append(along_rows)
            columns = torch.logaddexp(columns, along_columns)
        return positives, torch.cat(rows), columns


def _tile_log_sum_exps(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Log-sum-exps of a tile; one exponential serves both where its logits are close enough."""
    low, high = logits.aminmax()
    if high - low > SAFE_RANGE:
        return logits.logsumexp(1), logits.logsumexp(0)
    exponentials = logits.sub_(high).exp_()
    return exponentials.sum(1).log_() + high, exponentials.sum(0).log_() + high


def info_nce_backward(
    grad_positives: Tensor,
    grad_rows: Tensor,
    grad_columns: Tensor,
    predicted: Tensor,
    target: Tensor,
    rows: Tensor,
    columns: Tensor,
    first: int,
    with_target: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of `info_nce`; every tile of logits is formed a second time."""
    predicted, target = predicted.contiguous(), target.contiguous()
    own = slice(first, first + len(predicted))
    with torch.autocast(predicted.device.type, enabled=False):
        # The positives' share lies on one diagonal and never needs a tile.
        grad_predicted = target[own] * grad_positives[:, None]
        grad_target = target.new_zeros(target.shape if with_target else 0)
        if with_target:
            torch.mul(predicted, grad_positives[:, None], out=grad_target[own])
        for start in range(0, len(predicted), ROWS_PER_TILE):
            tile = slice(start, start + ROWS_PER_TILE)
            logits = predicted[tile] @ target.T
            share = (logits - columns).exp_().mul_(grad_columns)
            share.addcmul_(logits.sub_(rows[tile, None]).exp_(), grad_rows[tile, None])
            grad_predicted[tile].addmm_(share, target)
            if with_target:
                grad_target.addmm_(share.T, predicted[tile])
        return grad_predicted, grad_target
