"""Log-sum-exps of a logit matrix on a GPU: Triton kernels, deterministic (no atomics).

One kernel serves rows and columns: columns are the rows of the transposed matrix, so it runs twice
with the roles of `own` and `other` exchanged, and no program waits for or adds to another's result.
Legend of shapes: n_own and n_other rows of width D; BLOCK_M own rows, BLOCK_N other rows a tile.
"""

# Kernels are Triton's language, which has no Python types; the functions that start them are typed.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from brainit_bit.ops._gpu import dot_precision

BLOCK_M = 64
BLOCK_N = 64
BLOCK_D = 32
GRADIENT_BLOCK_M = 32
GRADIENT_BLOCK_N = 32
# The fewest threads and stages for which no kernel spills registers on sm_80, sm_90 and gfx942.
LAUNCH = {"num_warps": 8, "num_stages": 3}


@triton.jit
def _block(pointer, rows, columns, n_rows, dim):
    """Load ``pointer[rows, columns]`` of an [n_rows, dim] matrix; 0 outside."""
    places = rows.to(tl.int64)[:, None] * dim + columns[None, :]
    mask = (rows < n_rows)[:, None] & (columns < dim)[None, :]
    return tl.load(pointer + places, mask=mask, other=0.0)


@triton.jit
def _logits(
    own,
    other,
    rows,
    columns,
    n_own,
    n_other,
    dim,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """A tile of ``own @ other.T``, [BLOCK_M, BLOCK_N]."""
    logits = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for start in range(0, dim, BLOCK_D):
        width = start + tl.arange(0, BLOCK_D)
        left = _block(own, rows, width, n_own, dim)
        right = _block(other, columns, width, n_other, dim)
        logits = tl.dot(left, tl.trans(right), logits, input_precision=PRECISION)
    return logits


@triton.jit
def log_sum_exp_kernel(
    own,
    other,
    log_sums,
    n_own,
    n_other,
    dim,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Log-sum-exp of every row of ``own @ other.T`` with a running peak; program (tile of own)."""
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    peak = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    for start in range(0, n_other, BLOCK_N):
        columns = start + tl.arange(0, BLOCK_N)
        logits = _logits(
            own, other, rows, columns, n_own, n_other, dim, BLOCK_M, BLOCK_N, BLOCK_D, PRECISION
        )
        logits = tl.where((columns < n_other)[None, :], logits, float("-inf"))
        higher = tl.maximum(peak, tl.max(logits, 1))
        total = total * tl.exp(peak - higher) + tl.sum(tl.exp(logits - higher[:, None]), 1)
        peak = higher
    tl.store(log_sums + rows, peak + tl.log(total), mask=rows < n_own)


@triton.jit
def gradient_kernel(
    own,
    other,
    own_log_sums,
    other_log_sums,
    own_grad,
    other_grad,
    grad,
    n_own,
    n_other,
    dim,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Gradient of own rows through both log-sum-exps, added to `grad`; program (tile of own).

    Every tile of logits is formed again, turned into shares ``g_own exp(logit - own_log_sum)
    + g_other exp(logit - other_log_sum)``, and multiplied by the other features.
    """
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = rows < n_own
    row_sums = tl.load(own_log_sums + rows, mask=inside, other=float("inf"))
    row_grad = tl.load(own_grad + rows, mask=inside, other=0.0)
    width = tl.arange(0, WIDTH)
    total = _block(grad, rows, width, n_own, dim)
    for start in range(0, n_other, BLOCK_N):
        columns = start + tl.arange(0, BLOCK_N)
        there = columns < n_other
        logits = _logits(
            own, other, rows, columns, n_own, n_other, dim, BLOCK_M, BLOCK_N, BLOCK_D, PRECISION
        )
        column_sums = tl.load(other_log_sums + columns, mask=there, other=float("inf"))
        column_grad = tl.load(other_grad + columns, mask=there, other=0.0)
        shares = row_grad[:, None] * tl.exp(logits - row_sums[:, None])
        shares = tl.where(there[None, :], shares, 0.0)
        shares += column_grad[None, :] * tl.exp(logits - column_sums[None, :])
        features = _block(other, columns, width, n_other, dim)
        total = tl.dot(shares, features, total, input_precision=PRECISION)
    places = rows.to(tl.int64)[:, None] * dim + width[None, :]
    tl.store(grad + places, total, mask=inside[:, None] & (width < dim)[None, :])


def _log_sum_exps(own: Tensor, other: Tensor) -> Tensor:
    log_sums = own.new_empty(len(own))
    log_sum_exp_kernel[(triton.cdiv(len(own), BLOCK_M),)](
        *(own, other, log_sums, len(own), len(other), own.shape[1]),
        *(BLOCK_M, BLOCK_N, BLOCK_D, dot_precision()),
        **LAUNCH,
    )
    return log_sums


def info_nce(predicted: Tensor, target: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor]:
    """Positive logits and the log-sum-exps of all rows and columns; see `ops`."""
    predicted, target = predicted.contiguous(), target.contiguous()
    positives = (predicted * target[first : first + len(predicted)]).sum(1)
    with torch.cuda.device_of(predicted):
        return positives, _log_sum_exps(predicted, target), _log_sum_exps(target, predicted)


def _add_gradient(
    grad: Tensor,
    own: tuple[Tensor, Tensor, Tensor],
    other: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Add to `grad` what flows into `own` features; both are (features, log-sums, gradients)."""
    (features, log_sums, grads), (other_features, other_log_sums, other_grads) = own, other
    n_own, dim = features.shape
    gradient_kernel[(triton.cdiv(n_own, GRADIENT_BLOCK_M),)](
        *(features, other_features, log_sums, other_log_sums, grads, other_grads, grad),
        *(n_own, len(other_features), dim, GRADIENT_BLOCK_M, GRADIENT_BLOCK_N, BLOCK_D),
        *(max(16, triton.next_power_of_2(dim)), dot_precision()),
        **LAUNCH,
    )


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
    """Gradients of `info_nce`; every tile of logits is formed once more for either input."""
    predicted, target = predicted.contiguous(), target.contiguous()
    along_rows = (predicted, rows, grad_rows.contiguous())
    along_columns = (target, columns, grad_columns.contiguous())
    positives = slice(first, first + len(predicted))
    grad_predicted = target[positives] * grad_positives[:, None]
    grad_target = target.new_zeros(target.shape if with_target else 0)
    with torch.cuda.device_of(predicted):
        _add_gradient(grad_predicted, along_rows, along_columns)
        if with_target:
            torch.mul(predicted, grad_positives[:, None], out=grad_target[positives])
            _add_gradient(grad_target, along_columns, along_rows)
    return grad_predicted, grad_target
