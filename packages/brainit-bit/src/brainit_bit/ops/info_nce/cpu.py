"""Log-sum-exps of a logit matrix by tiles: plain torch on BLAS, any device.

All tiles share the same memory, so that of one or two tiles is all that is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from brainit_bit.ops.info_nce import tiles

ROWS, COLUMNS = 2048, 1024  # of a tile: large enough for BLAS, small beside the operands
SAFE_RANGE = 76.0  # exp(-76) / (2 N), a share in a mean over N < 40,000, is a normal number in fp32
NEGLIGIBLE = 1e-30  # a probability that no sum with the largest of its row can show


def info_nce(predicted: Tensor, target: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor]:
    """Positive logits and the log-sum-exps of all rows and columns; see `ops`."""
    with torch.autocast(predicted.device.type, enabled=False):
        positives = (predicted * target[first : first + len(predicted)]).sum(1)
        rows = predicted.new_full((len(predicted),), -torch.inf)
        columns = predicted.new_full((len(target),), -torch.inf)
        space = predicted.new_empty(ROWS * COLUMNS)
        by_rows = [predicted, rows, predicted.norm(dim=1)]
        by_columns = [target, columns, target.norm(dim=1)]
        for part, row, length in tiles.blocks(by_rows, ROWS):
            for other, column, other_length in tiles.blocks(by_columns, COLUMNS):
                reach = length.amax() * other_length.amax()
                along_row, along_column = _tile_log_sum_exps(
                    tiles.logits(part, other, space), reach
                )
                torch.logaddexp(row, along_row, out=row)
                torch.logaddexp(column, along_column, out=column)
        return positives, rows, columns


def _tile_log_sum_exps(values: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
    """Log-sum-exps of a tile; one exponential serves both where its logits are close enough.

    `reach` is the most that a logit can differ from 0; the logits are written over.
    """
    base: Tensor | float = 0.0
    if reach > SAFE_RANGE:
        low, base = values.aminmax()
        if base - low > SAFE_RANGE:
            return values.logsumexp(1), values.logsumexp(0)
        values.sub_(base)
    values.exp_()
    return values.sum(1).log_() + base, values.sum(0).log_() + base


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
        lengths, other_lengths = predicted.norm(dim=1), target.norm(dim=1)
        by_rows = [predicted, lengths, rows[:, None], grad_rows[:, None], grad_predicted]
        by_columns = [target, other_lengths, columns, grad_columns]
        by_columns += [grad_target if with_target else target]
        space, second = predicted.new_empty(2, ROWS * COLUMNS)
        for part, length, row, grad_row, grad_part in tiles.blocks(by_rows, ROWS):
            for other, other_length, *of_column, grad_other in tiles.blocks(by_columns, COLUMNS):
                values, factors = tiles.logits(part, other, space), tiles.tile(second, part, other)
                reach = length.amax() * other_length.amax()
                share = _tile_shares(values, reach, (row, grad_row), of_column, factors)
                grad_part.addmm_(share, other)
                if with_target:
                    grad_other.addmm_(share.T, part)
        return grad_predicted, grad_target


def _tile_shares(
    values: Tensor,
    reach: Tensor,
    of_row: Sequence[Tensor],
    of_column: Sequence[Tensor],
    space: Tensor,
) -> Tensor:
    """Gradients of a tile of logits; one exponential serves both softmaxes where none is tiny.

    `values`, the logits, none farther than `reach` from 0, and `space`, of their shape, are written
    over. Rows and columns come with their log-sum-exps and the gradients of those.
    """
    (row, grad_row), (column, grad_column) = of_row, of_column
    highest = torch.maximum(row.amax(), column.amax())
    near_zero = bool(highest + reach <= SAFE_RANGE)
    if near_zero or highest - values.amin() <= SAFE_RANGE:
        base = 0.0 if near_zero else highest
        by_row = grad_row * (base - row).exp_()
        by_column = grad_column * (base - column).exp_()
        factors = torch.add(by_row, by_column, out=space)
        return (values if near_zero else values.sub_(base)).exp_().mul_(factors)
    # Subnormal numbers make a matrix product on a CPU some twenty times slower.
    along_column, along_row = (
        functional.threshold(part.exp_(), NEGLIGIBLE, 0, inplace=True)
        for part in (torch.sub(values, column, out=space), values.sub_(row))
    )
    return along_column.mul_(grad_column).addcmul_(along_row, grad_row)
