"""Cluster context on a GPU: Triton kernels, deterministic (no atomics, sums in one fixed order).

Programs belong to one cluster and one tile of voxels, samples or embedding columns, so that no tile
straddles two clusters; a program whose tile lies past the end of its cluster returns at once.
Legend of shapes: N voxels, K clusters, B samples, D width; BLOCK_N, BLOCK_B, BLOCK_D their tiles.
"""

# Kernels are Triton's language, which has no Python types; the functions that start them are typed.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate

import torch
import triton
import triton.language as tl
from torch import Tensor

from brainit_bit.ops._gpu import dot_precision

BLOCK_N = 32
BLOCK_D = 64
SOFTMAX_BLOCK_B, SOFTMAX_BLOCK_N = 16, 128  # where nothing is multiplied
# The fewest threads and stages for which no kernel spills registers on sm_80, sm_90 and gfx942.
LAUNCH = {"num_warps": 8, "num_stages": 2}
# Fused, ``a x - b`` would not vanish for a rounded ``b = a x``.
UNFUSED = LAUNCH | {"enable_fp_fusion": False}


@triton.jit
def _block(pointer, rows, columns, row_mask, column_mask, stride):
    """Load ``pointer[rows, columns]`` of a matrix whose rows lie `stride` apart; 0 outside."""
    places = rows.to(tl.int64)[:, None] * stride + columns[None, :]
    return tl.load(pointer + places, mask=row_mask[:, None] & column_mask[None, :], other=0.0)


@triton.jit
def slope_kernel(
    embedding, query, offsets, slope, dim, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr
):
    """``slope_v = e_v . query_c``; program (cluster, tile of its voxels)."""
    cluster = tl.program_id(0)
    first = tl.load(offsets + cluster) + tl.program_id(1) * BLOCK_N
    stop = tl.load(offsets + cluster + 1)
    if first < stop:
        voxels = first + tl.arange(0, BLOCK_N)
        total = tl.zeros([BLOCK_N], tl.float32)
        for start in range(0, dim, BLOCK_D):
            columns = start + tl.arange(0, BLOCK_D)
            rows = _block(embedding, voxels, columns, voxels < stop, columns < dim, dim)
            asked = tl.load(query + cluster * dim + columns, mask=columns < dim, other=0.0)
            total += tl.sum(rows * asked[None, :], 1)
        tl.store(slope + voxels, total, mask=voxels < stop)


@triton.jit
def _scores(activations, drawn, slope, samples, voxels, batch, stop, n_voxels):
    """Scores [BLOCK_B, BLOCK_N], -inf where no voxel is drawn, and multiplicities."""
    inside = voxels < stop
    values = _block(activations, samples, voxels, samples < batch, inside, n_voxels)
    if drawn is None:
        counts = tl.where(inside[None, :], tl.full(values.shape, 1.0, tl.float32), 0.0)
    else:
        counts = _block(drawn, samples, voxels, samples < batch, inside, n_voxels)
    scores = values * tl.load(slope + voxels, mask=inside, other=0.0)[None, :]
    return tl.where(counts > 0, scores, float("-inf")), counts


@triton.jit
def weights_kernel(
    activations,
    drawn,
    slope,
    offsets,
    weights,
    occupied,
    batch,
    n_voxels,
    n_clusters,
    BLOCK_B: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Softmax over a cluster's voxels in two passes; program (cluster, tile of samples)."""
    cluster = tl.program_id(0)
    begin = tl.load(offsets + cluster)
    stop = tl.load(offsets + cluster + 1)
    samples = tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B)
    peak = tl.full([BLOCK_B], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_B], tl.float32)
    for start in range(begin, stop, BLOCK_N):
        voxels = start + tl.arange(0, BLOCK_N)
        scores, counts = _scores(activations, drawn, slope, samples, voxels, batch, stop, n_voxels)
        higher = tl.maximum(peak, tl.max(scores, 1))
        base = tl.where(higher == float("-inf"), 0.0, higher)  # nothing drawn so far: not NaN
        total = total * tl.exp(peak - base) + tl.sum(counts * tl.exp(scores - base[:, None]), 1)
        peak = higher
    tl.store(
        occupied + samples.to(tl.int64) * n_clusters + cluster,
        tl.where(total > 0, 1.0, 0.0),
        mask=samples < batch,
    )
    base = tl.where(total > 0, peak, 0.0)
    total = tl.where(total > 0, total, 1.0)
    for start in range(begin, stop, BLOCK_N):
        voxels = start + tl.arange(0, BLOCK_N)
        scores, counts = _scores(activations, drawn, slope, samples, voxels, batch, stop, n_voxels)
        share = counts * tl.exp(scores - base[:, None])
        # Rounded to nearest, so that a voxel that takes everything has the weight 1.
        share = tl.div_rn(share, tl.broadcast_to(total[:, None], share.shape))
        places = samples.to(tl.int64)[:, None] * n_voxels + voxels[None, :]
        mask = (samples < batch)[:, None] & (voxels < stop)[None, :]
        tl.store(weights + places, share, mask=mask)


@triton.jit
def context_kernel(
    activations,
    weights,
    embedding,
    offsets,
    context,
    batch,
    n_voxels,
    dim,
    BLOCK_B: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """``context = (a x) @ e``; program (cluster, tile of columns, tile of samples)."""
    cluster = tl.program_id(0)
    begin = tl.load(offsets + cluster)
    stop = tl.load(offsets + cluster + 1)
    columns = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    samples = tl.program_id(2) * BLOCK_B + tl.arange(0, BLOCK_B)
    total = tl.zeros([BLOCK_B, BLOCK_D], tl.float32)
    for start in range(begin, stop, BLOCK_N):
        voxels = start + tl.arange(0, BLOCK_N)
        share = _block(weights, samples, voxels, samples < batch, voxels < stop, n_voxels)
        share *= _block(activations, samples, voxels, samples < batch, voxels < stop, n_voxels)
        rows = _block(embedding, voxels, columns, voxels < stop, columns < dim, dim)
        total = tl.dot(share, rows, total, input_precision=PRECISION)
    places = (cluster.to(tl.int64) * batch + samples)[:, None] * dim + columns[None, :]
    tl.store(context + places, total, mask=(samples < batch)[:, None] & (columns < dim)[None, :])


@triton.jit
def columns_backward_kernel(
    grad,
    embedding,
    offsets,
    grad_columns,
    batch,
    n_voxels,
    dim,
    BLOCK_B: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """``grad @ e.T``, the gradient of ``a x``; program (cluster, tile of voxels, of samples)."""
    cluster = tl.program_id(0)
    first = tl.load(offsets + cluster) + tl.program_id(1) * BLOCK_N
    stop = tl.load(offsets + cluster + 1)
    if first < stop:
        voxels = first + tl.arange(0, BLOCK_N)
        samples = tl.program_id(2) * BLOCK_B + tl.arange(0, BLOCK_B)
        chosen, inside = samples < batch, voxels < stop
        lines = cluster.to(tl.int64) * batch + samples
        total = tl.zeros([BLOCK_B, BLOCK_N], tl.float32)
        for start in range(0, dim, BLOCK_D):
            columns = start + tl.arange(0, BLOCK_D)
            asked = _block(grad, lines, columns, chosen, columns < dim, dim)
            rows = _block(embedding, voxels, columns, inside, columns < dim, dim)
            total = tl.dot(asked, tl.trans(rows), total, input_precision=PRECISION)
        places = samples.to(tl.int64)[:, None] * n_voxels + voxels[None, :]
        tl.store(grad_columns + places, total, mask=chosen[:, None] & inside[None, :])


@triton.jit
def _weighed(grad_columns, activations, weights, samples, voxels, batch, stop, n_voxels):
    """Tiles of weights, of their gradients, of activations and of the gradients of ``a x``."""
    chosen, inside = samples < batch, voxels < stop
    share = _block(weights, samples, voxels, chosen, inside, n_voxels)
    values = _block(activations, samples, voxels, chosen, inside, n_voxels)
    columns_grad = _block(grad_columns, samples, voxels, chosen, inside, n_voxels)
    return share, columns_grad * values, values, columns_grad


@triton.jit
def means_backward_kernel(
    grad_columns,
    activations,
    weights,
    offsets,
    means,
    batch,
    n_voxels,
    BLOCK_B: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """``sum_v a_v da_v``, [K, B]; program (cluster, tile of samples).

    It equals ``grad . context``, but a sum of the very ``da_v`` from which it is taken away leaves
    exactly nothing where one voxel takes all the weight.
    """
    cluster = tl.program_id(0)
    begin = tl.load(offsets + cluster)
    stop = tl.load(offsets + cluster + 1)
    samples = tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B)
    mean = tl.zeros([BLOCK_B], tl.float32)
    for start in range(begin, stop, BLOCK_N):
        voxels = start + tl.arange(0, BLOCK_N)
        share, share_grad, _, _ = _weighed(
            grad_columns, activations, weights, samples, voxels, batch, stop, n_voxels
        )
        mean += tl.sum(share * share_grad, 1)
    tl.store(means + cluster.to(tl.int64) * batch + samples, mean, mask=samples < batch)


@triton.jit
def scores_backward_kernel(
    grad_columns,
    means,
    activations,
    weights,
    slope,
    offsets,
    grad_activations,
    grad_slope,
    batch,
    n_voxels,
    BLOCK_B: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Gradients of slope and activations; program (cluster, tile of its voxels)."""
    cluster = tl.program_id(0)
    first = tl.load(offsets + cluster) + tl.program_id(1) * BLOCK_N
    stop = tl.load(offsets + cluster + 1)
    if first < stop:
        voxels = first + tl.arange(0, BLOCK_N)
        steep = tl.load(slope + voxels, mask=voxels < stop, other=0.0)
        total = tl.zeros([BLOCK_N], tl.float32)
        for sample in range(0, batch, BLOCK_B):
            samples = sample + tl.arange(0, BLOCK_B)
            share, share_grad, values, columns_grad = _weighed(
                grad_columns, activations, weights, samples, voxels, batch, stop, n_voxels
            )
            lines = cluster.to(tl.int64) * batch + samples
            mean = tl.load(means + lines, mask=samples < batch, other=0.0)
            scores_grad = share * (share_grad - mean[:, None])
            total += tl.sum(scores_grad * values, 0)
            if grad_activations is not None:
                places = samples.to(tl.int64)[:, None] * n_voxels + voxels[None, :]
                found = columns_grad * share + scores_grad * steep[None, :]
                mask = (samples < batch)[:, None] & (voxels < stop)[None, :]
                tl.store(grad_activations + places, found, mask=mask)
        tl.store(grad_slope + voxels, total, mask=voxels < stop)


@triton.jit
def rows_backward_kernel(
    grad,
    activations,
    weights,
    embedding,
    query,
    grad_slope,
    offsets,
    grad_embedding,
    grad_query,
    batch,
    n_voxels,
    dim,
    BLOCK_B: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Gradients of embedding and query; program (cluster, tile of columns)."""
    cluster = tl.program_id(0)
    begin = tl.load(offsets + cluster)
    stop = tl.load(offsets + cluster + 1)
    columns = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    across = columns < dim
    asked = tl.load(query + cluster * dim + columns, mask=across, other=0.0)
    query_grad = tl.zeros([BLOCK_D], tl.float32)
    for start in range(begin, stop, BLOCK_N):
        voxels = start + tl.arange(0, BLOCK_N)
        inside = voxels < stop
        steep_grad = tl.load(grad_slope + voxels, mask=inside, other=0.0)
        total = steep_grad[:, None] * asked[None, :]
        for sample in range(0, batch, BLOCK_B):
            samples = sample + tl.arange(0, BLOCK_B)
            chosen = samples < batch
            share = _block(weights, samples, voxels, chosen, inside, n_voxels)
            share *= _block(activations, samples, voxels, chosen, inside, n_voxels)
            lines = cluster.to(tl.int64) * batch + samples
            wanted = _block(grad, lines, columns, chosen, across, dim)
            total = tl.dot(tl.trans(share), wanted, total, input_precision=PRECISION)
        places = voxels[:, None] * dim + columns[None, :]
        tl.store(grad_embedding + places, total, mask=inside[:, None] & across[None, :])
        rows = _block(embedding, voxels, columns, inside, across, dim)
        query_grad += tl.sum(steep_grad[:, None] * rows, 0)
    tl.store(grad_query + cluster * dim + columns, query_grad, mask=across)


@lru_cache(maxsize=64)
def _offsets(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    """First voxel of every cluster and the end of the last, int64 [K + 1]."""
    return torch.tensor([0, *accumulate(sizes)], device=device)


def block_b(batch: int) -> int:
    """Samples in a tile: a power of two, as ``tl.dot`` needs it at least 16."""
    return min(64, max(16, int(triton.next_power_of_2(batch))))


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
    voxel_tiles = triton.cdiv(max(sizes), BLOCK_N)
    with torch.cuda.device_of(activations):
        slope_kernel[n_clusters, voxel_tiles](
            embedding, query, offsets, slope, dim, BLOCK_N, BLOCK_D, **LAUNCH
        )
        weights_kernel[n_clusters, triton.cdiv(batch, SOFTMAX_BLOCK_B)](
            *(activations, drawn, slope, offsets, weights, occupied),
            *(batch, n_voxels, n_clusters, SOFTMAX_BLOCK_B, SOFTMAX_BLOCK_N),
            **LAUNCH,
        )
        context_kernel[n_clusters, columns, triton.cdiv(batch, samples)](
            *(activations, weights, embedding, offsets, context, batch, n_voxels, dim),
            *(samples, BLOCK_N, BLOCK_D, dot_precision()),
            **LAUNCH,
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
    voxel_tiles = triton.cdiv(max(sizes), BLOCK_N)
    blocks = (samples, BLOCK_N, BLOCK_D, dot_precision())
    with torch.cuda.device_of(activations):
        columns_backward_kernel[n_clusters, voxel_tiles, triton.cdiv(batch, samples)](
            *(grad, embedding, offsets, grad_columns, batch, n_voxels, dim, *blocks), **LAUNCH
        )
        means_backward_kernel[n_clusters, triton.cdiv(batch, SOFTMAX_BLOCK_B)](
            *(grad_columns, activations, weights, offsets, means, batch, n_voxels),
            *(SOFTMAX_BLOCK_B, SOFTMAX_BLOCK_N),
            **UNFUSED,
        )
        scores_backward_kernel[n_clusters, voxel_tiles](
            *(grad_columns, means, activations, weights, slope, offsets),
            *(grad_activations, grad_slope, batch, n_voxels, SOFTMAX_BLOCK_B, BLOCK_N),
            **UNFUSED,
        )
        rows_backward_kernel[n_clusters, columns](
            *(grad, activations, weights, embedding, query, grad_slope, offsets),
            *(grad_embedding, grad_query, batch, n_voxels, dim, *blocks),
            **LAUNCH,
        )
    if grad_activations is None:
        grad_activations = activations.new_empty(0)
    return grad_activations, grad_embedding, grad_query
