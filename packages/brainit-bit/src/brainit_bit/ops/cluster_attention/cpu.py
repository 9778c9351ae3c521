"""Cluster context as one pass over voxels sorted by cluster: plain torch on BLAS, any device."""

from __future__ import annotations

import torch
from torch import Tensor


def cluster_context(
    activations: Tensor,
    embedding: Tensor,
    query: Tensor,
    drawn: Tensor | None,
    sizes: list[int],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Softmax-weighted sum of ``x_v e_v`` in every cluster; see `ops` for arguments and results.

    A score is the activation times a number that does not depend on the sample, so the pass is a
    segment softmax on [B, N] and one (B x n_c)(n_c x D) product a cluster.
    """
    batch, n_voxels = activations.shape
    activations = activations.contiguous()
    rows = embedding.split(sizes)
    slope = embedding.new_empty(n_voxels)
    for c, part in enumerate(slope.split(sizes)):
        torch.mv(rows[c], query[c], out=part)
    weights = _softmax_by_cluster(activations * slope, drawn, sizes)
    columns = (weights * activations).split(sizes, 1)
    context = embedding.new_empty(len(sizes), batch, embedding.shape[1])
    for c, part in enumerate(context):
        torch.mm(columns[c], rows[c], out=part)
    return context, _occupied(weights, drawn, sizes), weights, slope


def _softmax_by_cluster(scores: Tensor, drawn: Tensor | None, sizes: list[int]) -> Tensor:
    """Softmax of [B, N] inside every cluster, weighted by how often a voxel was drawn."""
    weights = torch.empty_like(scores)
    if drawn is not None:
        # The lowest finite number, not -inf: a cluster with no drawn voxel must not turn into NaN.
        scores = torch.where(drawn > 0, scores + drawn.log(), torch.finfo(scores.dtype).min)
    for source, target in zip(scores.split(sizes, 1), weights.split(sizes, 1), strict=True):
        if source.shape[1]:
            torch.softmax(source, 1, out=target)
    if drawn is not None:
        weights.mul_(drawn > 0)
    return weights


def _occupied(weights: Tensor, drawn: Tensor | None, sizes: list[int]) -> Tensor:
    """1 where a cluster has a drawn voxel and 0 elsewhere, [B, K]."""
    if drawn is None:
        return weights.new_tensor([float(size > 0) for size in sizes]).repeat(len(weights), 1)
    occupied = weights.new_empty(len(weights), len(sizes))
    for c, part in enumerate(drawn.split(sizes, 1)):
        occupied[:, c] = part.sum(1) > 0
    return occupied


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
    """Gradients of `cluster_context`: three products of its size; see `ops`."""
    grad, activations = grad.contiguous(), activations.contiguous()
    rows = embedding.split(sizes)
    grad_columns = torch.empty_like(weights)
    for c, part in enumerate(grad_columns.split(sizes, 1)):
        torch.mm(grad[c], rows[c].T, out=part)
    # Softmax backward, cluster by cluster: a * (da - sum(a * da)).
    grad_scores = grad_columns * activations * weights
    for weight, part in zip(weights.split(sizes, 1), grad_scores.split(sizes, 1), strict=True):
        part.addcmul_(weight, part.sum(1, keepdim=True), value=-1)
    grad_slope = (grad_scores * activations).sum(0)

    grad_activations = activations.new_empty(0)
    if with_activations:
        grad_activations = grad_columns * weights + grad_scores * slope
    columns = (weights * activations).split(sizes, 1)
    grad_embedding = embedding.new_empty(embedding.shape)
    grad_query = query.new_empty(query.shape)
    slopes = grad_slope.split(sizes)
    for c, part in enumerate(grad_embedding.split(sizes)):
        torch.mm(columns[c].T, grad[c], out=part)
        part.addr_(slopes[c], query[c])
        torch.mv(rows[c].T, slopes[c], out=grad_query[c])
    return grad_activations, grad_embedding, grad_query
