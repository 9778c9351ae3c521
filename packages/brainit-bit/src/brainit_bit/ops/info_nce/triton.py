"""Log-sum-exps of a logit matrix on a GPU, by tiles: deterministic (no atomics).

The vendor's library forms the products and Triton does all that lies between them, one pass over a
tile for each thing: kernels that also multiplied took ten times as long on an H100. All tiles share
the same memory. Legend of shapes: a tile has n_own rows and n_other columns, or the other way.
"""

# Kernels are Triton's language, which has no Python types; the functions that start them are typed.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from brainit_bit.ops.info_nce import tiles

ROWS, COLUMNS = 4096, 16384  # of a tile, 256 MiB: products at the library's full rate
# What a program reads at once, its own rows first: along a line of memory, and across lines.
ALONG = {"BLOCK_OWN": 4, "BLOCK_OTHER": 1024}
ACROSS = {"BLOCK_OWN": 32, "BLOCK_OTHER": 128}
SHARES = {"BLOCK_ROWS": 16, "BLOCK_COLUMNS": 256}
LAUNCH = {"num_warps": 4}


@triton.jit
def log_sum_exp_kernel(
    logits,
    log_sums,
    n_own,
    n_other,
    own_stride,
    other_stride,
    BLOCK_OWN: tl.constexpr,
    BLOCK_OTHER: tl.constexpr,
):
    """Take a tile into the log-sum-exps of its rows, or of its columns; program (some of them)."""
    own = tl.program_id(0) * BLOCK_OWN + tl.arange(0, BLOCK_OWN)
    peak = tl.load(log_sums + own, mask=own < n_own, other=float("-inf"))
    total = tl.where(peak == float("-inf"), 0.0, 1.0)
    for start in range(0, n_other, BLOCK_OTHER):
        other = start + tl.arange(0, BLOCK_OTHER)
        places = own[:, None] * own_stride + other[None, :] * other_stride
        mask = (own < n_own)[:, None] & (other < n_other)[None, :]
        values = tl.load(logits + places, mask=mask, other=float("-inf"))
        higher = tl.maximum(peak, tl.max(values, 1))
        base = tl.where(higher == float("-inf"), 0.0, higher)  # past the end: not NaN
        total = total * tl.exp(peak - base) + tl.sum(tl.exp(values - base[:, None]), 1)
        peak = higher
    tl.store(log_sums + own, peak + tl.log(total), mask=own < n_own)


@triton.jit
def shares_kernel(
    logits,
    row_sums,
    column_sums,
    row_grads,
    column_grads,
    n_rows,
    n_columns,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """Turn a tile of logits into their gradients, in place; program (columns, rows).

    They are ``g_row exp(logit - row's log-sum-exp) + g_column exp(logit - column's)``.
    """
    columns = tl.program_id(0) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    rows = tl.program_id(1) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    along, down = columns < n_columns, rows < n_rows
    places = logits + rows[:, None] * n_columns + columns[None, :]
    mask = down[:, None] & along[None, :]
    values = tl.load(places, mask=mask, other=0.0)
    row_sum = tl.load(row_sums + rows, mask=down, other=0.0)
    row_grad = tl.load(row_grads + rows, mask=down, other=0.0)
    column_sum = tl.load(column_sums + columns, mask=along, other=0.0)
    column_grad = tl.load(column_grads + columns, mask=along, other=0.0)
    shares = row_grad[:, None] * tl.exp(values - row_sum[:, None])
    shares += column_grad[None, :] * tl.exp(values - column_sum[None, :])
    tl.store(places, shares, mask=mask)


def _take_in(tile: Tensor, log_sums: Tensor, block: dict[str, int]) -> None:
    """Take a tile into the log-sum-exps of its rows; of its columns, if it comes transposed."""
    n_own, n_other = tile.shape
    log_sum_exp_kernel[(triton.cdiv(n_own, block["BLOCK_OWN"]),)](
        tile, log_sums, n_own, n_other, *tile.stride(), **block, **LAUNCH
    )


def info_nce(predicted: Tensor, target: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor]:
    """Positive logits and the log-sum-exps of all rows and columns; see `ops`."""
    positives = (predicted * target[first : first + len(predicted)]).sum(1)
    rows = predicted.new_full((len(predicted),), -torch.inf)
    columns = predicted.new_full((len(target),), -torch.inf)
    space = _space(predicted, target)
    with torch.cuda.device_of(predicted), torch.autocast("cuda", enabled=False):
        for part, row in tiles.blocks([predicted, rows], ROWS):
            for other, column in tiles.blocks([target, columns], COLUMNS):
                tile = tiles.logits(part, other, space)
                _take_in(tile, row, ALONG)
                _take_in(tile.T, column, ACROSS)
    return positives, rows, columns


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
    own = slice(first, first + len(predicted))
    grad_predicted = target[own] * grad_positives[:, None]
    grad_target = target.new_zeros(target.shape if with_target else 0)
    if with_target:
        torch.mul(predicted, grad_positives[:, None], out=grad_target[own])
    by_rows = [predicted, rows, grad_rows.contiguous(), grad_predicted]
    by_columns = [target, columns, grad_columns.contiguous()]
    by_columns += [grad_target if with_target else target]
    space = _space(predicted, target)
    with torch.cuda.device_of(predicted), torch.autocast("cuda", enabled=False):
        for part, row, grad_row, grad_part in tiles.blocks(by_rows, ROWS):
            for other, column, grad_column, grad_other in tiles.blocks(by_columns, COLUMNS):
                tile = tiles.logits(part, other, space)
                _shares_in_place(tile, row, column, grad_row, grad_column)
                grad_part.addmm_(tile, other)
                if with_target:
                    grad_other.addmm_(tile.T, part)
    return grad_predicted, grad_target


def _shares_in_place(tile: Tensor, *vectors: Tensor) -> None:
    n_rows, n_columns = tile.shape
    grid = (
        triton.cdiv(n_columns, SHARES["BLOCK_COLUMNS"]),
        triton.cdiv(n_rows, SHARES["BLOCK_ROWS"]),
    )
    shares_kernel[grid](tile, *vectors, n_rows, n_columns, **SHARES, **LAUNCH)


def _space(predicted: Tensor, target: Tensor) -> Tensor:
    """Memory for the largest tile."""
    return predicted.new_empty(min(len(predicted), ROWS) * min(len(target), COLUMNS))
