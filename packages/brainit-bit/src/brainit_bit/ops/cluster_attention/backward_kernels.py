"""Triton kernels of the cluster context's backward pass, in the order of their launches.

Shapes and programs are as in `forward_kernels`; `triton` starts them.
"""

# Kernels are Triton's language, which has no Python types; the functions that start them are typed.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from brainit_bit.ops.cluster_attention.forward_kernels import block


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
            asked = block(grad, lines, columns, chosen, columns < dim, dim)
            rows = block(embedding, voxels, columns, inside, columns < dim, dim)
            total = tl.dot(asked, tl.trans(rows), total, input_precision=PRECISION)
        places = samples.to(tl.int64)[:, None] * n_voxels + voxels[None, :]
        tl.store(grad_columns + places, total, mask=chosen[:, None] & inside[None, :])


@triton.jit
def _weighed(grad_columns, activations, weights, samples, voxels, batch, stop, n_voxels):
    """Tiles of weights, of their gradients, of activations and of the gradients of ``a x``."""
    chosen, inside = samples < batch, voxels < stop
    share = block(weights, samples, voxels, chosen, inside, n_voxels)
    values = block(activations, samples, voxels, chosen, inside, n_voxels)
    columns_grad = block(grad_columns, samples, voxels, chosen, inside, n_voxels)
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
            share = block(weights, samples, voxels, chosen, inside, n_voxels)
            share *= block(activations, samples, voxels, chosen, inside, n_voxels)
            lines = cluster.to(tl.int64) * batch + samples
            wanted = block(grad, lines, columns, chosen, across, dim)
            total = tl.dot(tl.trans(share), wanted, total, input_precision=PRECISION)
        places = voxels[:, None] * dim + columns[None, :]
        tl.store(grad_embedding + places, total, mask=inside[:, None] & across[None, :])
        rows = block(embedding, voxels, columns, inside, across, dim)
        query_grad += tl.sum(steep_grad[:, None] * rows, 0)
    tl.store(grad_query + cluster * dim + columns, query_grad, mask=across)
