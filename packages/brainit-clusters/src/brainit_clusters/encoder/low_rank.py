"""Low-rank residuals that adapt a frozen backbone (Universal Brain Encoder, arXiv 2406.12179)."""

from __future__ import annotations

from torch import Tensor, nn


class LowRankResidual(nn.Module):
    """x + (alpha / rank) A B x with B zero at the start, so that the backbone starts unchanged."""

    def __init__(self, width: int, rank: int, alpha: float) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.b = nn.Linear(width, rank, bias=False)
        self.a = nn.Linear(rank, width, bias=False)
        nn.init.zeros_(self.b.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        residual: Tensor = self.a(self.b(x))
        return x + self.scale * residual.to(x.dtype)
