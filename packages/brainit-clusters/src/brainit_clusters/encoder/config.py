"""Sizes of the encoder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Sizes of the encoder; the defaults are the paper's.

    Attributes:
        dim: Width E of a voxel embedding.
        channels: Channels C of each tap.
        taps: Blocks after which the backbone is tapped, counted from 1, ascending.
        rank: Rank of the low-rank residual after each block; 0: none.
        alpha: The residual is scaled by alpha / rank.
        dropout: On the attended values, in training.
        mlp_ratio: Hidden width of a tap's MLP over `channels`.
    """

    dim: int = 256
    channels: int = 128
    taps: tuple[int, ...] = (1, 6, 12, 18, 24)
    rank: int = 7
    alpha: float = 0.01
    dropout: float = 0.25
    mlp_ratio: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "taps", tuple(self.taps))
        if not self.taps or self.taps[0] < 1 or sorted(set(self.taps)) != list(self.taps):
            raise ValueError(f"taps are {self.taps}, expected block numbers from 1, ascending")
        if min(self.dim, self.channels, self.mlp_ratio) < 1 or self.rank < 0:
            raise ValueError("dim, channels and mlp_ratio must be at least 1, rank at least 0")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, not in [0, 1)")
