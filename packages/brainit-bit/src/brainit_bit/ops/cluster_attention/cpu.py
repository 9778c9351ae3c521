"""Cluster context as one pass over voxels sorted by cluster: plain torch on BLAS, any device.

What concerns one cluster is done in one go, while its embeddings are in the cache.
"""

from __future__ import annotations

import torch
from torch import Tensor

from brainit_bit.ops._pages import on_large_pages


def cluster_context(
    activations: Tensor,
    embedding: Tensor,
    query: Tensor,
    drawn: Tensor | None,
    sizes: list[int],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Softmax-weighted sum of ``x_v e_v`` in every cluster; see `ops` for arguments and results.

    A score is the activation times a number that does not depend on the sample, so that a cluster
    needs a softmax on [B, n_c] and one (B x n_c)(n_c x D) product.
    """
    batch, n_voxels = activations.shape
    drawn = torch.ones_like(activations) if drawn is None else drawn
    context = embedding.new_empty(len(sizes), batch, embedding.shape[1])
    totals = activations.new_empty(batch, len(sizes))
    weights = activations.new_empty(batch, n_voxels)
    slopes = embedding.new_empty(n_voxels)
    clusters = zip(
        *(tensor.split(sizes, 1) for tensor in (activations, drawn, weights)),
        *(tensor.split(sizes) for tensor in (embedding, slopes)),
        query,
        totals.split(1, 1),
        context,
        strict=True,
    )
    limits = torch.finfo(weights.dtype)
    for x, count, weight, rows, slope, ask, total, out in clusters:
        torch.mv(rows, ask, out=slope)
        # The lowest finite number, not -inf: a cluster with no drawn voxel must not turn into NaN.
        scores = (x * slope).masked_fill_(count == 0, limits.min)
        torch.mul(scores.softmax(1), count, out=weight)
        torch.sum(weight, 1, keepdim=True, out=total)
        weight.div_(total.clamp_min(limits.tiny))
        torch.mm(weight * x, rows, out=out)
    return context, (totals > 0).to(weights.dtype), weights, slopes


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
    grad_activations = activations.new_empty(activations.shape if with_activations else 0)
    grad_embedding = on_large_pages(embedding.new_empty(embedding.shape))
    grad_query = query.new_empty(query.shape)
    clusters = zip(
        *(tensor.split(sizes, 1) for tensor in (activations, weights)),
        *(tensor.split(sizes) for tensor in (embedding, slope, grad_embedding)),
        grad_activations.split(sizes, 1) if with_activations else [None] * len(sizes),
        query,
        grad,
        grad_query,
        strict=True,
    )
    for x, weight, rows, s, grad_rows, grad_x, ask, grad_out, grad_ask in clusters:
        grad_column = torch.mm(grad_out, rows.T)
        column = weight * x
        # Softmax backward: a * (da - sum(a * da)).
        grad_score = grad_column * column
        grad_score.addcmul_(weight, grad_score.sum(1, keepdim=True), value=-1)
        if grad_x is not None:
            torch.addcmul(grad_column.mul_(weight), grad_score, s, out=grad_x)
        grad_slope = grad_score.mul_(x).sum(0)
        torch.mm(column.T, grad_out, out=grad_rows)
        grad_rows.addr_(grad_slope, ask)
        torch.mv(rows.T, grad_slope, out=grad_ask)
    return grad_activations, grad_embedding, grad_query
