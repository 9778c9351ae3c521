"""From contrastive predictions to feature values: one affine map per level.

A contrastive loss fixes predicted features only up to what leaves their ranking of targets
unchanged. For Gaussian features its optimum is linear in their conditional mean, so an affine map
per level, fitted on held-out images, turns predictions into the conditional mean that an inversion
by mean squared error asks for. Shrinkage towards the mean where predictions are poor comes with
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

RIDGE = 1e-4


class LevelCalibration:
    """Affine map per level of a token sequence.

    Args:
        level_sizes: Number of tokens of each level, in sequence order.
        dim: Width D of a token.
        weight: [L, D, D] and bias [L, D] of a solved calibration; None before `solve`.
    """

    def __init__(
        self,
        level_sizes: Sequence[int],
        dim: int,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> None:
        self.level_sizes = tuple(level_sizes)
        self.dim = dim
        self.weight = weight
        self.bias = bias
        n_levels = len(self.level_sizes)
        self._gram = torch.zeros(n_levels, dim + 1, dim + 1, dtype=torch.float64)
        self._cross = torch.zeros(n_levels, dim + 1, dim, dtype=torch.float64)

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add samples to the least-squares sums.

        Args:
            predicted: [B, T, D], T = sum of level_sizes.
            target: [B, T, D].

        Raises:
            ValueError: The shapes differ or do not fit the levels.
        """
        expected = (len(predicted), sum(self.level_sizes), self.dim)
        if predicted.shape != expected or target.shape != expected:
            shapes = f"{tuple(predicted.shape)} and {tuple(target.shape)}"
            raise ValueError(f"predicted and target {shapes} must be {expected}")
        pairs = zip(
            predicted.split(self.level_sizes, 1), target.split(self.level_sizes, 1), strict=True
        )
        for level, (x_BTD, y_BTD) in enumerate(pairs):
            x = x_BTD.reshape(-1, self.dim)
            x = torch.cat([x, x.new_ones(len(x), 1)], 1)
            self._gram[level] += (x.T @ x).double()
            self._cross[level] += (x.T @ y_BTD.reshape(-1, self.dim)).double()

    def solve(self) -> LevelCalibration:
        """The fitted map; a ridge of 1e-4 of the mean variance keeps it stable."""
        scale = self._gram.diagonal(dim1=1, dim2=2)[:, :-1].mean(1)
        ridge = torch.eye(self.dim + 1, dtype=torch.float64)
        ridge[-1, -1] = 0
        solution = torch.linalg.solve(
            self._gram + RIDGE * scale[:, None, None] * ridge, self._cross
        )
        weight, bias = solution[:, :-1].float().contiguous(), solution[:, -1].float().contiguous()
        return LevelCalibration(self.level_sizes, self.dim, weight, bias)

    def __call__(self, predicted: Tensor) -> Tensor:
        """Calibrated features [B, T, D] from predictions [B, T, D].

        Raises:
            ValueError: The calibration has not been solved.
        """
        if self.weight is None or self.bias is None:
            raise ValueError(
                "this calibration has not been fitted: call update() and solve() first"
            )
        levels = predicted.split(self.level_sizes, 1)
        mapped = [x @ w + b for x, w, b in zip(levels, self.weight, self.bias, strict=True)]
        return torch.cat(mapped, 1)

    def save(self, path: Path) -> None:
        """Write the map as safetensors."""
        if self.weight is None or self.bias is None:
            raise ValueError(
                "this calibration has not been fitted: call update() and solve() first"
            )
        sizes = torch.tensor(self.level_sizes)
        temporary = path.with_name(f".{path.name}.tmp")
        save_file({"weight": self.weight, "bias": self.bias, "level_sizes": sizes}, temporary)
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> LevelCalibration:
        """Read what `save` wrote."""
        with safe_open(path, framework="pt") as file:
            weight, bias, sizes = (
                file.get_tensor(name) for name in ("weight", "bias", "level_sizes")
            )
        return cls(sizes.tolist(), weight.shape[-1], weight, bias)
