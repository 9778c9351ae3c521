"""Operators ``brainit::info_nce`` and its backward: schemas, fakes, autograd, devices.

``info_nce(predicted [m, D], target [M, D], first)``, both in one floating dtype, looks at the
logits ``predicted @ target.T``, predicted row i belonging to target row ``first + i``, and returns

- the positive logits [m];
- the log-sum-exp of every row [m] and of every column [M].

All three are differentiable, once, by both inputs. The symmetric InfoNCE is a mean of vectors away
from them, also where each process holds only some of the rows. No [m, M] tensor exists. Triton
serves fp32 on CUDA and HIP devices, plain torch everything else.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from brainit_bit.ops._gpu import takes_kernels
from brainit_bit.ops.info_nce import cpu

FORWARD = "brainit::info_nce"
BACKWARD = "brainit::info_nce_backward"

torch.library.define(
    FORWARD,
    "(Tensor predicted, Tensor target, SymInt first)"
    " -> (Tensor positives, Tensor rows, Tensor columns)",
    tags=torch.Tag.pt2_compliant_tag,
)
torch.library.define(
    BACKWARD,
    "(Tensor grad_positives, Tensor grad_rows, Tensor grad_columns, Tensor predicted,"
    " Tensor target, Tensor rows, Tensor columns, SymInt first, bool with_target)"
    " -> (Tensor grad_predicted, Tensor grad_target)",
    tags=torch.Tag.pt2_compliant_tag,
)
torch.library.impl(FORWARD, "default", cpu.info_nce)
torch.library.impl(BACKWARD, "default", cpu.info_nce_backward)


def _backend(features: Tensor) -> ModuleType:
    if not takes_kernels(features):
        return cpu
    from brainit_bit.ops.info_nce import triton

    return triton


@torch.library.impl(FORWARD, "cuda")
def _forward_on_gpu(predicted: Tensor, *arguments: Any) -> Any:
    return _backend(predicted).info_nce(predicted, *arguments)


@torch.library.impl(BACKWARD, "cuda")
def _backward_on_gpu(*arguments: Any) -> Any:
    return _backend(arguments[3]).info_nce_backward(*arguments)


def _forward_fake(predicted: Tensor, target: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor]:
    n_rows, n_columns = predicted.shape[0], target.shape[0]
    return (
        predicted.new_empty(n_rows),
        predicted.new_empty(n_rows),
        predicted.new_empty(n_columns),
    )


def _backward_fake(
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
    return (
        predicted.new_empty(predicted.shape),
        target.new_empty(target.shape if with_target else 0),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    predicted, target, ctx.first = inputs
    _, rows, columns = output
    ctx.save_for_backward(predicted, target, rows, columns)


def _differentiate(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    with_target = ctx.needs_input_grad[1]
    grad_predicted, grad_target = torch.ops.brainit.info_nce_backward(
        *grads, *ctx.saved_tensors, ctx.first, with_target
    )
    return grad_predicted, grad_target if with_target else None, None


def _refuse(ctx: Any, *_: Tensor) -> None:
    raise RuntimeError(f"{FORWARD}: expected to be differentiated once, got a second derivative")


torch.library.register_fake(FORWARD, _forward_fake)
torch.library.register_fake(BACKWARD, _backward_fake)
torch.library.register_autograd(FORWARD, _differentiate, setup_context=_keep)
torch.library.register_autograd(BACKWARD, _refuse)
