"""Cluster attention as one pass over voxels sorted by cluster: plain torch on BLAS."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


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


class _ClusterContext(Function):
    """``context_c = sum_v a_v x_v e_v`` with ``a`` the softmax of ``x_v (e_v . query_c)``.

    A score is the activation times a number that does not depend on the sample, so the pass is a
    segment softmax on [B, N] and one (B x n_c)(n_c x D) product a cluster; the backward pass is
    three products of that size. No [B, N, D] tensor exists.
    """

    @staticmethod
    def forward(
        ctx: Any,
        activations: Tensor,
        embedding: Tensor,
        query: Tensor,
        drawn: Tensor | None,
        sizes: list[int],
    ) -> Tensor:
        batch, n_voxels = activations.shape
        rows = embedding.split(sizes)
        slope = embedding.new_empty(n_voxels)
        for c, part in enumerate(slope.split(sizes)):
            torch.mv(rows[c], query[c], out=part)
        weights = _softmax_by_cluster(activations * slope, drawn, sizes)
        columns = (weights * activations).split(sizes, 1)
        context = embedding.new_empty(len(sizes), batch, embedding.shape[1])
        for c, part in enumerate(context):
            torch.mm(columns[c], rows[c], out=part)
        ctx.save_for_backward(activations, embedding, query, weights, slope)
        ctx.sizes = sizes
        return context.transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        activations, embedding, query, weights, slope = ctx.saved_tensors
        sizes: list[int] = ctx.sizes
        grad = grad.transpose(0, 1).contiguous()
        rows = embedding.split(sizes)

        grad_columns = torch.empty_like(weights)
        for c, part in enumerate(grad_columns.split(sizes, 1)):
            torch.mm(grad[c], rows[c].T, out=part)
        # Softmax backward, cluster by cluster: a * (da - sum(a * da)).
        grad_scores = grad_columns * activations * weights
        for weight, part in zip(weights.split(sizes, 1), grad_scores.split(sizes, 1), strict=True):
            part.addcmul_(weight, part.sum(1, keepdim=True), value=-1)
        grad_slope = (grad_scores * activations).sum(0)

        grad_activations = None
        if ctx.needs_input_grad[0]:
            grad_activations = grad_columns * weights + grad_scores * slope
        columns = (weights * activations).split(sizes, 1)
        grad_embedding, grad_query = torch.empty_like(embedding), torch.empty_like(query)
        slopes = grad_slope.split(sizes)
        for c, part in enumerate(grad_embedding.split(sizes)):
            torch.mm(columns[c].T, grad[c], out=part)
            part.addr_(slopes[c], query[c])
            torch.mv(rows[c].T, slopes[c], out=grad_query[c])
        return grad_activations, grad_embedding, grad_query, None, None


def cluster_context(
    activations: Tensor,
    embedding: Tensor,
    query: Tensor,
    sizes: list[int],
    drawn: Tensor | None,
) -> Tensor:
    """Softmax-weighted mean of ``x_v e_v`` in every cluster.

    Args:
        activations: Voxel responses, [B, N], sorted by cluster.
        embedding: Voxel embeddings, [N, D], in the same order.
        query: One vector a cluster whose product with ``e_v`` is the score's slope, [K, D].
        sizes: Voxels in each of the K clusters; their sum is N.
        drawn: Multiplicities, [B, N] >= 0, or None.

    Returns:
        Contexts, [B, K, D]; zero where a cluster has no drawn voxel.
    """
    context: Tensor = _ClusterContext.apply(activations, embedding, query, drawn, sizes)
    return context
