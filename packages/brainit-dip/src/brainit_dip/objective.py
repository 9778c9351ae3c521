"""How far the features of images are from given ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Objective:
    """Weighted mean over the levels of the mean squared error to target maps, per image."""

    def __init__(
        self,
        targets: Sequence[Tensor],
        level_weights: Sequence[float] | None = None,
        position_weights: Sequence[Tensor] | None = None,
    ) -> None:
        """Keep targets and weights.

        Args:
            targets: One [B, C, h, w] per level.
            level_weights: One per level, normalised to sum to one; None weighs all the same.
            position_weights: One [B, h, w] per level, normalised to a mean of one over each
                level's positions; None weighs all the same.
        """
        self.targets = list(targets)
        weights = targets[0].new_tensor(level_weights or (1.0,) * len(targets))
        self.level_weights = weights / weights.sum()
        self.position_weights = [
            (w / w.mean((1, 2), keepdim=True)).unsqueeze(1).to(targets[0])
            for w in position_weights or ()
        ]

    def __call__(self, maps: Sequence[Tensor]) -> Tensor:
        """Loss of each image, [B], in the targets' precision."""
        errors = [(x.to(y.dtype) - y).square() for x, y in zip(maps, self.targets, strict=True)]
        if self.position_weights:
            errors = [e * w for e, w in zip(errors, self.position_weights, strict=True)]
        return self.level_weights @ torch.stack([e.flatten(1).mean(1) for e in errors])

    def keep(self, rows: Tensor) -> None:
        """Forget the images whose row, a bool of [B], is False."""
        self.targets = [x[rows] for x in self.targets]
        self.position_weights = [x[rows] for x in self.position_weights]
