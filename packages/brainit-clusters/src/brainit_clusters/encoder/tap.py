"""One level of the encoder: voxels attend to the tokens of an image, then are read out.

Universal Brain Encoder (arXiv 2406.12179).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from brainit_clusters.encoder.config import EncoderConfig


class FoldedTap(NamedTuple):
    """What a tap needs to know of each voxel, once for any number of images.

    Attributes:
        query: [V, C], the voxel's query brought back through the key projection.
        position: [V, T], the voxel's score of each token position.
        direct: [V, C], readout weights of the attended values.
        hidden: [V, R C], readout weights brought back through the MLP's second layer.
        offset: [V], the readout of that layer's bias, in float32 at least.
    """

    query: Tensor
    position: Tensor
    direct: Tensor
    hidden: Tensor
    offset: Tensor


class Tap(nn.Module):
    """One level: values of the tokens, voxel-to-token attention, an MLP, a readout.

    For voxel v and token t with value x_t the score is (W_q e_v + b_q) . (W_k x_t + b_k + p_t),
    softmax over the tokens without scaling. The term with b_k is the same for every token and
    leaves the softmax, so W_k has no bias here; W_k^T q and q . p_t do not depend on the image,
    so `fold` computes them once a voxel. Likewise the readout w . (y + W_2 h + b_2) needs only
    w, W_2^T w and w . b_2.
    """

    def __init__(self, width: int, config: EncoderConfig) -> None:
        super().__init__()
        channels, dim, hidden = config.channels, config.dim, config.mlp_ratio * config.channels
        self.norm_in = nn.LayerNorm(width)
        self.project = nn.Linear(width, channels)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(channels, dim, bias=False)
        self.norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(config.dropout)
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def values(self, tokens: Tensor) -> Tensor:
        """Backbone tokens [B, T, width] to values [B, T, C]."""
        values: Tensor = self.project(self.norm_in(tokens))
        return values

    def fold(self, embedding: Tensor, position: Tensor, weights: Tensor) -> FoldedTap:
        """Bring a tap's matrices to the voxels' side.

        Args:
            embedding: [V, E] voxel embeddings.
            position: [T, E] learned positions.
            weights: [V, C] this tap's readout weights of each voxel.
        """
        query = self.query(embedding)
        wide = torch.promote_types(weights.dtype, torch.float32)
        return FoldedTap(
            query=query @ self.key.weight,
            position=query @ position.T,
            direct=weights.contiguous(),  # columns of a wider matrix are multiplied slowly
            hidden=weights @ self.fc2.weight,
            offset=(weights * self.fc2.bias).sum(dim=1, dtype=wide),
        )

    def forward(self, values: Tensor, voxels: FoldedTap) -> Tensor:
        """This tap's share of the responses: values [..., T, C], V voxels -> [..., V].

        It comes in float32 at least: the shares of the taps are summed.
        """
        query = voxels.query.expand(*values.shape[:-2], -1, -1)
        scores = voxels.position + query @ values.mT
        attended = self.dropout(self.norm(scores.softmax(dim=-1).to(values.dtype) @ values))
        hidden = F.gelu(self.fc1(attended))
        readout: Tensor = voxels.offset + (attended * voxels.direct).sum(dim=-1)
        return readout + (hidden * voxels.hidden).sum(dim=-1)
