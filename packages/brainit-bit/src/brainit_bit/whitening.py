"""Whitened targets of the contrastive loss."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Self

import torch
from torch import Tensor

FLOOR = 1e-2
"""Directions below this share of the largest variance are not amplified further."""


class LevelWhitening:
    """Affine map per level that decorrelates true tokens and brings them to a small length.

    A contrastive loss by plain dot products has its optimum where a prediction is the conditional
    mean times the inverse covariance of what remains unknown. With features as they come that
    inverse spans orders of magnitude, and the error of a short training with it. Against whitened
    targets the same optimum is of one scale. Calibration maps predictions back to features.

    Attributes:
        mean: [L, D].
        map: [L, D, D].
    """

    def __init__(self, tokens: Tensor, level_sizes: Sequence[int]) -> None:
        """Fit on true tokens [n, T, D], T = sum of level_sizes."""
        parts = [part.flatten(0, 1).double() for part in tokens.split(tuple(level_sizes), 1)]
        self.mean = torch.stack([part.mean(0) for part in parts]).float()
        self.map = torch.stack([_whitener(torch.cov(part.T)) for part in parts]).float()

    @classmethod
    def restored(cls, mean: Tensor, map: Tensor) -> Self:
        """The whitening of an earlier fit, from what it kept: `mean` [L, D] and `map` [L, D, D]."""
        whitening = cls.__new__(cls)
        whitening.mean, whitening.map = mean, map
        return whitening

    def __call__(self, tokens: Tensor, levels: Tensor) -> Tensor:
        """Whitened tokens.

        Args:
            tokens: [B, Q, D].
            levels: Level of every token, int64 [Q].

        Returns:
            [B, Q, D]; the mean square of a token is about D / 16 before the floor's effect.
        """
        centred = tokens - self.mean[levels]
        result = torch.empty_like(centred)
        for level in levels.unique():
            chosen = levels == level
            result[:, chosen] = centred[:, chosen] @ self.map[level]
        return result


def _whitener(covariance: Tensor) -> Tensor:
    """Symmetric inverse root, with a floor, over four; zero where there is no variance at all."""
    values, vectors = torch.linalg.eigh(covariance)
    top = values[-1]
    # Four: dot products of some hundred entries should start near one, not near ten.
    scale = (values.clamp(min=0) + FLOOR * top).rsqrt() / sqrt(16)
    scale = torch.where(values > 1e-6 * top, scale, 0.0)
    whitener: Tensor = (vectors * scale) @ vectors.T
    return whitener
