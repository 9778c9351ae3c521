"""The truth and the baseline: the brain tokenizer as attention on a graph, drawn voxels only.

PyTorch Geometric's TransformerConv where it is installed (``pip install torch_geometric``), the
package's own plain reference elsewhere.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor, nn

from brainit_bit.ops.cluster_attention.reference import cluster_attention_reference
from brainit_bit.subjects import SubjectVoxels
from brainit_bit.tokenizer import BrainTokenizer

WITH_PYG = find_spec("torch_geometric") is not None
NAME = "torch_geometric TransformerConv" if WITH_PYG else "graph form in plain PyTorch"


class GraphTokenizer(nn.Module):
    """A `BrainTokenizer` with the same parameters, every drawn voxel of every sample a node.

    Args:
        tokenizer: Whose parameters to use.
        one_kind: Whether clusters and draws are nodes of one kind, so that the layer computes
            queries and skip terms for the draws too, instead of a bipartite graph, which is less
            work. Plain PyTorch knows the latter only.
    """

    def __init__(self, tokenizer: BrainTokenizer, one_kind: bool = False) -> None:
        super().__init__()
        self.own = tokenizer
        self.one_kind = one_kind and WITH_PYG
        if WITH_PYG:
            from torch_geometric.nn import TransformerConv

            dim = tokenizer.centres.shape[1]
            self.attention = TransformerConv(dim, dim, root_weight=self.one_kind)
            self.attention.lin_query = tokenizer.query
            self.attention.lin_key = tokenizer.key
            self.attention.lin_value = tokenizer.value
            self.attention.lin_skip = tokenizer.skip if self.one_kind else None

    def forward(self, activations: Tensor, voxels: SubjectVoxels, multiplicity: Tensor) -> Tensor:
        """Brain tokens [B, K, D]; arguments as `BrainTokenizer` takes them."""
        attended = self.attend(activations, voxels, multiplicity)
        if not self.one_kind:
            attended = attended + self.own.skip(self.own.centres)
        tokens: Tensor = self.own.norm(torch.relu(attended))
        return tokens

    def attend(self, activations: Tensor, voxels: SubjectVoxels, multiplicity: Tensor) -> Tensor:
        """Attended values [B, K, D], with the skip term where all nodes are of one kind."""
        drawn = multiplicity.index_select(1, voxels.order)
        activations = activations.index_select(1, voxels.order)
        labels = voxels.labels[voxels.order]
        if WITH_PYG:
            return self._on_graph(activations, voxels.embedding, labels, drawn)
        return torch.cat(
            [
                self._in_plain_torch(x[mine], voxels.embedding[mine], labels[mine], counts[mine])
                for x, counts, mine in zip(activations, drawn, drawn > 0, strict=True)
            ]
        )

    def _on_graph(
        self, activations: Tensor, embedding: Tensor, labels: Tensor, drawn: Tensor
    ) -> Tensor:
        """One graph of all samples: an edge from every draw to its cluster in its sample."""
        batch, n_voxels = activations.shape
        n_clusters, dim = self.own.centres.shape
        draws = torch.arange(batch * n_voxels, device=drawn.device).repeat_interleave(
            drawn.flatten().long()
        )
        sample, voxel = draws // n_voxels, draws % n_voxels
        nodes = activations.flatten()[draws, None] * embedding[voxel]
        edges = torch.stack(
            [torch.arange(len(draws), device=drawn.device), sample * n_clusters + labels[voxel]]
        )
        centres = self.own.centres.repeat(batch, 1)
        attended: Tensor
        if self.one_kind:
            edges[1] += len(draws)
            attended = self.attention(torch.cat([nodes, centres]), edges)[len(draws) :]
        else:
            attended = self.attention((nodes, centres), edges)
        return attended.view(batch, n_clusters, dim)

    def _in_plain_torch(
        self, activations: Tensor, embedding: Tensor, labels: Tensor, drawn: Tensor
    ) -> Tensor:
        """One sample, [1, K, D]."""
        own = self.own
        return cluster_attention_reference(
            activations[None],
            embedding,
            labels,
            own.query(own.centres),
            own.key.weight,
            torch.zeros_like(own.value.bias),
            own.value.weight,
            own.value.bias,
            drawn[None],
        )
