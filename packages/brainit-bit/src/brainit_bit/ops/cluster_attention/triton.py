"""Cluster context on a GPU: Triton kernels, deterministic (no atomics, sums in one fixed order)."""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate

import torch
import triton
from torch import Tensor

from brainit_bit.ops._gpu import dot_precision
from brainit_bit.ops.cluster_attention.backward_kernels import (
    columns_backward_kernel,
    means_backward_kernel,
    rows_backward_kernel,
    scores_backward_kernel,
)
from brainit_bit.ops.cluster_attention.forward_kernels import (
    context_kernel,
    slope_kernel,
    weights_kernel,
)

BLOCK_N, BLOCK_D = 64, 64
SOFTMAX_BLOCK_B, SOFTMAX_BLOCK_N = 2, 512  # a softmax in two passes
SCORES_BLOCK_B = 16


@lru_cache(maxsize=64)
def _offsets(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    """First voxel of every cluster and the end of the last, int64 [K + 1]."""
    return torch.tensor([0, *accumulate(sizes)], device=device)


def block_b(batch: int) -> int:
    """Samples in a tile: ``tl.dot`` needs 16 at least, and more than 32 spill registers."""
    return 16 if batch <= 16 else 32


def launch(batch: int) -> dict[str, int]:
    """Threads and stages: of what spills no registers on sm_80, sm_90, gfx942, fast on an H100."""
    return {"num_warps": block_b(batch) // 4, "num_stages": 2}


def unfused(batch: int) -> dict[str, int]:
    """The same with rounded products: fused, ``a x - b`` would not vanish for ``b = a x``."""
    return launch(batch) | {"enable_fp_fusion": False}


def cluster_context(
    activations: Tensor,
    embedding: Tensor,
    query: Tensor,
    drawn: Tensor | None,
    sizes: list[int],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Softmax-weighted sum of ``x_v e_v`` in every cluster; see `ops` for arguments and results."""
    activations, embedding, query = (t.contiguous() for t in (activations, embedding, query))
    drawn = None if drawn is None else drawn.contiguous()
    (batch, n_voxels), dim, n_clusters = activations.shape, embedding.shape[1], len(sizes)
    offsets = _offsets(tuple(sizes), activations.device)
    context = embedding.new_empty(n_clusters, batch, dim)
    occupied = activations.new_empty(batch, n_clusters)
    weights, slope = activations.new_empty(batch, n_voxels), embedding.new_empty(n_voxels)
    samples, columns = block_b(batch), triton.cdiv(dim, BLOCK_D)
    voxel_tiles, options = triton.cdiv(max(sizes), BLOCK_N), launch(batch)
    with torch.cuda.device_of(activations):
        slope_kernel[n_clusters, voxel_tiles](
            embedding, query, offsets, slope, dim, BLOCK_N, BLOCK_D, **options
        )
        weights_kernel[n_clusters, triton.cdiv(batch, SOFTMAX_BLOCK_B)](
            *(activations, drawn, slope, offsets, weights, occupied),
            *(batch, n_voxels, n_clusters, SOFTMAX_BLOCK_B, SOFTMAX_BLOCK_N),
            **options,
        )
        context_kernel[n_clusters, columns, triton.cdiv(batch, samples)](
            *(activations, weights, embedding, offsets, context, batch, n_voxels, dim),
            *(samples, BLOCK_N, BLOCK_D, dot_precision()),
            **options,
        )
    return context, occupied, weights, slope


def cluster_context_backward(
    grad: Tensor,
    activations: Tensor,
    embedding: Tensor,
    query: Tensor,
    weights: Tensor,
    slope: Tensor,
    sizes: list[int],
    with_activations: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `cluster_context`; see `ops`."""
    grad, activations = grad.contiguous(), activations.contiguous()
    embedding, query = embedding.contiguous(), query.contiguous()
    (batch, n_voxels), dim, n_clusters = activations.shape, embedding.shape[1], len(sizes)
    offsets = _offsets(tuple(sizes), activations.device)
    grad_activations = torch.empty_like(activations) if with_activations else None
    grad_columns, grad_slope = torch.empty_like(weights), torch.empty_like(slope)
    grad_embedding, grad_query = torch.empty_like(embedding), torch.empty_like(query)
    means = activations.new_empty(n_clusters, batch)
    samples, columns = block_b(batch), triton.cdiv(dim, BLOCK_D)
    voxel_tiles, options = triton.cdiv(max(sizes), BLOCK_N), launch(batch)
    blocks = (samples, BLOCK_N, BLOCK_D, dot_precision())
    with torch.cuda.device_of(activations):
        columns_backward_kernel[n_clusters, voxel_tiles, triton.cdiv(batch, samples)](
            *(grad, embedding, offsets, grad_columns, batch, n_voxels, dim, *blocks), **options
        )
        means_backward_kernel[n_clusters, triton.cdiv(batch, SOFTMAX_BLOCK_B)](
            *(grad_columns, activations, weights, offsets, means, batch, n_voxels),
            *(SOFTMAX_BLOCK_B, SOFTMAX_BLOCK_N),
            **unfused(batch),
        )
        scores_backward_kernel[n_clusters, voxel_tiles](
            *(grad_columns, means, activations, weights, slope, offsets),
            *(grad_activations, grad_slope, batch, n_voxels, SCORES_BLOCK_B, BLOCK_N),
            **unfused(batch),
        )
        rows_backward_kernel[n_clusters, columns](
            *(grad, activations, weights, embedding, query, grad_slope, offsets),
            *(grad_embedding, grad_query, batch, n_voxels, dim, *blocks),
            **options,
        )
    if grad_activations is None:
        grad_activations = activations.new_empty(0)
    return grad_activations, grad_embedding, grad_query
