"""Brain tokenizer: the voxels of one subject to K brain tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from brainit_bit.ops.cluster_attention import cluster_attention
from brainit_bit.subjects import SubjectVoxels, initial_std


class BrainTokenizer(nn.Module):
    """One attention head from each cluster to its own voxels, plus a skip term.

    Cluster c asks with ``W_q g_c + b_q``, voxel v answers with its activation times its embedding;
    then ReLU and LayerNorm. A cluster with no drawn voxel keeps its skip term ``W_s g_c + b_s``.
    Source: Brain-IT (arXiv 2510.25976), brain tokenizer.

    Args:
        n_clusters: Functional clusters, K.
        dim: Width of embeddings and brain tokens, D.
    """

    def __init__(self, n_clusters: int, dim: int) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(n_clusters, dim) * initial_std(dim))
        self.query = nn.Linear(dim, dim)
        # No b_k: q_c . b_k is constant inside a cluster, so the softmax drops it.
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.skip = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, activations: Tensor, voxels: SubjectVoxels, multiplicity: Tensor | None = None
    ) -> Tensor:
        """Compute the brain tokens.

        Args:
            activations: Voxel responses, [B, N], in the subject's own voxel order.
            voxels: The subject.
            multiplicity: How often each voxel was drawn, [B, N] >= 0; None means once each.

        Returns:
            Brain tokens, [B, K, D].
        """
        attended = self.attend(activations, voxels, multiplicity)
        tokens: Tensor = self.norm(torch.relu(attended + self.skip(self.centres)))
        return tokens

    def attend(
        self, activations: Tensor, voxels: SubjectVoxels, multiplicity: Tensor | None = None
    ) -> Tensor:
        """Compute what the clusters gather from their voxels, without the skip term: [B, K, D]."""
        order = voxels.order
        return cluster_attention(
            activations.index_select(1, order),
            voxels.embedding,
            voxels.sizes,
            self.query(self.centres),
            self.key.weight,
            self.value.weight,
            self.value.bias,
            None if multiplicity is None else multiplicity.index_select(1, order),
        )
