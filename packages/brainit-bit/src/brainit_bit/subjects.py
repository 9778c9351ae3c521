"""What belongs to one subject: an embedding and a cluster for every voxel."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn


def initial_std(dim: int) -> float:
    """Standard deviation of embeddings at the start: ``0.1 / (2 sqrt(dim))``."""
    return 0.05 / math.sqrt(dim)


class SubjectVoxels(nn.Module):
    """Voxel embeddings of one subject, rows sorted by cluster, and the way to that order.

    Attributes:
        embedding: [N, D]; row i belongs to voxel ``order[i]``.
        labels: Cluster of every voxel, int64 [N], in the subject's own voxel order.
        order: Voxel of every row, int64 [N]: stable sort by cluster.
        sizes: Number of voxels of each cluster, K integers.
    """

    labels: Tensor
    order: Tensor

    def __init__(
        self,
        labels: Tensor,
        n_clusters: int,
        dim: int,
        embedding: Tensor | None = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.n_clusters = n_clusters
        self.register_buffer("labels", labels)
        self._index()
        if embedding is None:
            drawn = torch.randn(len(labels), dim, generator=generator, device="cpu")
            embedding = drawn * initial_std(dim)
        rows = embedding.detach()[self.order.to(embedding.device)]
        self.embedding = nn.Parameter(rows.to(torch.float32))
        self.register_load_state_dict_post_hook(_index_again)

    def _index(self) -> None:
        order = torch.sort(self.labels, stable=True).indices
        self.register_buffer("order", order, persistent=False)
        self.sizes: list[int] = self.labels.bincount(minlength=self.n_clusters).tolist()

    @property
    def n_voxels(self) -> int:
        """Number of voxels, N."""
        return len(self.labels)

    def by_voxel(self) -> Tensor:
        """Embeddings in the subject's own voxel order, a detached copy [N, D]."""
        result = torch.empty_like(self.embedding.detach())
        result[self.order] = self.embedding.detach()
        return result


def _index_again(module: nn.Module, _: object) -> None:
    """Loaded labels may differ from those that the module was made with."""
    assert isinstance(module, SubjectVoxels)
    module._index()
