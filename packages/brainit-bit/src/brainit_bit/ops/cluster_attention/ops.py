"""Operators ``brainit::cluster_context`` and its backward: schemas, fakes, autograd, devices.

``cluster_context(activations [B, N], embedding [N, D], query [K, D], drawn [B, N] or None, sizes)``
takes voxels sorted by cluster, all tensors in one floating dtype, and returns

- context [K, B, D], ``sum_v a_v x_v e_v`` with ``a`` the softmax over a cluster's voxels of
  ``x_v (e_v . query_c)``, each voxel counted as often as it was drawn; zero without a drawn voxel;
- occupied [B, K], 1 where a cluster has a drawn voxel and 0 elsewhere;
- the weights ``a`` [B, N] and the slopes ``e_v . query_c`` [N], kept for the backward pass.

Only the context is differentiable, by activations, embedding and query, and once. Triton computes
fp32 on CUDA and HIP devices, plain torch everything else.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from brainit_bit.ops._gpu import takes_kernels
from brainit_bit.ops.cluster_attention import cpu

FORWARD = "brainit::cluster_context"
BACKWARD = "brainit::cluster_context_backward"

torch.library.define(
    FORWARD,
    "(Tensor activations, Tensor embedding, Tensor query, Tensor? drawn, SymInt[] sizes)"
    " -> (Tensor context, Tensor occupied, Tensor weights, Tensor slope)",
    tags=torch.Tag.pt2_compliant_tag,
)
torch.library.define(
    BACKWARD,
    "(Tensor grad, Tensor activations, Tensor embedding, Tensor query, Tensor weights,"
    " Tensor slope, SymInt[] sizes, bool with_activations)"
    " -> (Tensor grad_activations, Tensor grad_embedding, Tensor grad_query)",
    tags=torch.Tag.pt2_compliant_tag,
)
torch.library.impl(FORWARD, "default", cpu.cluster_context)
torch.library.impl(BACKWARD, "default", cpu.cluster_context_backward)


def _backend(tensor: Tensor) -> ModuleType:
    if not takes_kernels(tensor):
        return cpu
    from brainit_bit.ops.cluster_attention import triton

    return triton


@torch.library.impl(FORWARD, "cuda")
def _forward_on_gpu(activations: Tensor, *arguments: Any) -> Any:
    return _backend(activations).cluster_context(activations, *arguments)


@torch.library.impl(BACKWARD, "cuda")
def _backward_on_gpu(grad: Tensor, *arguments: Any) -> Any:
    return _backend(grad).cluster_context_backward(grad, *arguments)


def _forward_fake(
    activations: Tensor, embedding: Tensor, query: Tensor, drawn: Tensor | None, sizes: list[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, n_voxels = activations.shape
    return (
        embedding.new_empty(len(sizes), batch, embedding.shape[1]),
        activations.new_empty(batch, len(sizes)),
        activations.new_empty(batch, n_voxels),
        embedding.new_empty(n_voxels),
    )


def _backward_fake(
    grad: Tensor,
    activations: Tensor,
    embedding: Tensor,
    query: Tensor,
    weights: Tensor,
    slope: Tensor,
    sizes: list[int],
    with_activations: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        activations.new_empty(activations.shape if with_activations else 0),
        embedding.new_empty(embedding.shape),
        query.new_empty(query.shape),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    activations, embedding, query, _, sizes = inputs
    _, occupied, weights, slope = output
    ctx.mark_non_differentiable(occupied, weights, slope)
    ctx.set_materialize_grads(False)  # no zeros of the size of the weights
    ctx.save_for_backward(activations, embedding, query, weights, slope)
    ctx.sizes = sizes


def _differentiate(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 5
    with_activations = ctx.needs_input_grad[0]
    grad_activations, grad_embedding, grad_query = torch.ops.brainit.cluster_context_backward(
        grad, *ctx.saved_tensors, ctx.sizes, with_activations
    )
    return grad_activations if with_activations else None, grad_embedding, grad_query, None, None


def _refuse(ctx: Any, *_: Tensor) -> None:
    raise RuntimeError(f"{FORWARD}: expected to be differentiated once, got a second derivative")


torch.library.register_fake(FORWARD, _forward_fake)
torch.library.register_fake(BACKWARD, _backward_fake)
torch.library.register_autograd(FORWARD, _differentiate, setup_context=_keep)
torch.library.register_autograd(BACKWARD, _refuse)
