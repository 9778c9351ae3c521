"""Cluster attention: the public form, which checks its arguments."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from brainit_bit.ops.cluster_attention import ops as _registered  # noqa: F401


def cluster_attention(
    activations: Tensor,
    embedding: Tensor,
    sizes: Sequence[int],
    query: Tensor,
    key_weight: Tensor,
    value_weight: Tensor,
    value_bias: Tensor,
    multiplicity: Tensor | None = None,
) -> Tensor:
    """Attend from every cluster to its voxels, in time and memory linear in B x N.

    Equal to the graph form in which voxel v holds key ``W_k x_v e_v + b_k`` and value
    ``W_v x_v e_v + b_v`` (Brain-IT, arXiv 2510.25976, brain tokenizer): inside a cluster
    ``q_c . b_k`` is constant and leaves the softmax, the score is ``x_v`` times a slope that does
    not depend on the sample, and ``W_v`` moves behind the sum over voxels. Computed in fp32 (or
    fp64) whatever autocast says; `multiplicity` takes no gradient.

    Args:
        activations: Voxel responses, [B, N], voxels sorted by cluster.
        embedding: Voxel embeddings, [N, D], in the same order.
        sizes: Number of voxels of each of the K clusters, 0 allowed, summing to N.
        query: Cluster queries, [K, D].
        key_weight: [D, D].
        value_weight: [D, D].
        value_bias: [D].
        multiplicity: How often each voxel was drawn, [B, N] >= 0; None means once each.

    Returns:
        Attended values, [B, K, D]; zero where a cluster has no drawn voxel.

    Raises:
        ValueError: If shapes disagree.
    """
    _check(activations, embedding, sizes, query, multiplicity)
    dtype = torch.promote_types(embedding.dtype, torch.float32)
    with torch.autocast(activations.device.type, enabled=False):
        slope_query = query.to(dtype) @ key_weight.to(dtype) / query.shape[1] ** 0.5
        drawn = None if multiplicity is None else multiplicity.detach().to(dtype)
        context, occupied, _, _ = torch.ops.brainit.cluster_context(
            activations.to(dtype), embedding.to(dtype), slope_query, drawn, list(sizes)
        )
        values = (context @ value_weight.to(dtype).T).transpose(0, 1)
        return torch.addcmul(values, occupied[:, :, None], value_bias.to(dtype))


def _check(
    activations: Tensor,
    embedding: Tensor,
    sizes: Sequence[int],
    query: Tensor,
    multiplicity: Tensor | None,
) -> None:
    if activations.ndim != 2 or activations.shape[1] != len(embedding):
        raise ValueError(
            f"activations: expected [B, {len(embedding)}] to match the embedding's voxels, "
            f"got {list(activations.shape)}"
        )
    if len(sizes) != len(query) or sum(sizes) != len(embedding):
        raise ValueError(
            f"sizes: expected {len(query)} cluster sizes summing to {len(embedding)}, "
            f"got {len(sizes)} summing to {sum(sizes)}"
        )
    if multiplicity is not None and multiplicity.shape != activations.shape:
        raise ValueError(
            f"multiplicity: expected the activations' shape {list(activations.shape)}, "
            f"got {list(multiplicity.shape)}"
        )
