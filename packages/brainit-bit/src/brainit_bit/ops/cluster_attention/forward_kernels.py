"""Triton kernels of the cluster context's forward pass; `triton` starts them.

Programs belong to one cluster and one tile of voxels, samples or embedding columns, so that no tile
straddles two clusters; a program whose tile lies past the end of its cluster returns at once.
Legend of shapes: N voxels, K clusters, B samples, D width; BLOCK_N, BLOCK_B, BLOCK_D their tiles.
"""

# Kernels are Triton's language, which has no Python types; the functions that start them are typed.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def block(pointer, rows, columns, row_mask, column_mask, stride):
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
            rows = block(embedding, voxels, columns, voxels < stop, columns < dim, dim)
            asked = tl.load(query + cluster * dim + columns, mask=columns < dim, other=0.0)
            total += tl.sum(rows * asked[None, :], 1)
        tl.store(slope + voxels, total, mask=voxels < stop)


@triton.jit
def _scores(activations, drawn, slope, samples, voxels, batch, stop, n_voxels):
    """Scores [BLOCK_B, BLOCK_N], -inf where no voxel is drawn, and multiplicities."""
    inside = voxels < stop
    values = block(activations, samples, voxels, samples < batch, inside, n_voxels)
    if drawn is None:
        counts = tl.where(inside[None, :], tl.full(values.shape, 1.0, tl.float32), 0.0)
    else:
        counts = block(drawn, samples, voxels, samples < batch, inside, n_voxels)
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
        share = block(weights, samples, voxels, samples < batch, voxels < stop, n_voxels)
        share *= block(activations, samples, voxels, samples < batch, voxels < stop, n_voxels)
        rows = block(embedding, voxels, columns, voxels < stop, columns < dim, dim)
        total = tl.dot(share, rows, total, input_precision=PRECISION)
    places = (cluster.to(tl.int64) * batch + samples)[:, None] * dim + columns[None, :]
    tl.store(context + places, total, mask=(samples < batch)[:, None] & (columns < dim)[None, :])
