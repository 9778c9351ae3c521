"""Cluster attention as a graph: one key and one value per voxel and sample."""

from __future__ import annotations

import torch
from torch import Tensor


def cluster_attention_reference(
    activations: Tensor,
    embedding: Tensor,
    labels: Tensor,
    query: Tensor,
    key_weight: Tensor,
    key_bias: Tensor,
    value_weight: Tensor,
    value_bias: Tensor,
    multiplicity: Tensor | None = None,
) -> Tensor:
    """Attend from every cluster to its voxels, every step written out.

    Voxel v enters as ``h_v = x_v e_v`` and sends ``W_k h_v + b_k`` and ``W_v h_v + b_v`` along its
    one edge to its cluster; the softmax runs over the edges that enter a cluster. Works in any
    floating dtype, on voxels in any order, and holds several [B, N, D] tensors: it is the truth
    that the fast form is compared with (Brain-IT, arXiv 2510.25976, brain tokenizer).

    Args:
        activations: Voxel responses, [B, N].
        embedding: Voxel embeddings, [N, D].
        labels: Cluster of every voxel, int64 [N] in [0, K).
        query: Cluster queries, [K, D].
        key_weight: [D, D].
        key_bias: [D].
        value_weight: [D, D].
        value_bias: [D].
        multiplicity: How often each voxel was drawn, [B, N] >= 0; None means once each.

    Returns:
        Attended values, [B, K, D]; zero where a cluster has no drawn voxel.
    """
    batch, n_clusters = len(activations), len(query)
    hidden = activations[:, :, None] * embedding
    keys = hidden @ key_weight.T + key_bias
    values = hidden @ value_weight.T + value_bias
    scores = (keys * query[labels]).sum(-1) / query.shape[1] ** 0.5
    drawn = torch.ones_like(activations) if multiplicity is None else multiplicity
    drawn = drawn.to(scores.dtype)

    edges = labels.expand(batch, -1)
    scores = scores.masked_fill(drawn == 0, -torch.inf)
    peak = scores.new_full((batch, n_clusters), -torch.inf)
    peak = peak.scatter_reduce(1, edges, scores.detach(), "amax")
    peak = peak.masked_fill(peak.isinf(), 0)
    weights = drawn * (scores - peak.gather(1, edges)).exp()
    total = scores.new_zeros(batch, n_clusters).scatter_add(1, edges, weights)
    weights = weights / total.masked_fill(total == 0, 1).gather(1, edges)
    attended = values.new_zeros(batch, n_clusters, values.shape[-1])
    return attended.index_add(1, labels, weights[:, :, None] * values)
