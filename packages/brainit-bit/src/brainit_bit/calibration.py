"""From contrastive predictions to feature values: one affine map per level.

A contrastive loss fixes predicted features only up to what leaves their ranking of targets
unchanged. For Gaussian features its optimum is linear in their conditional mean, so an affine map
per level, fitted on held-out images, turns predictions into the conditional mean that an inversion
by mean squared error asks for. Shrinkage towards the mean where predictions are poor comes with
it, and so does an estimate of how much each level knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from brainit_bit.checkpoint import write_whole

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Penalties that are tried, relative to the mean variance of the predictions."""

UNFITTED = "this calibration has not been fitted: call update() and solve() first"


class Sums(NamedTuple):
    """Least-squares sums of samples x (with a one appended) and y of one level."""

    gram: Tensor
    cross: Tensor
    squares: Tensor

    def add(self, other: Sums, sign: int = 1) -> Sums:
        """Sums of both sets of samples, or of this one without the other."""
        return Sums(*(a + sign * b for a, b in zip(self, other, strict=True)))

    def solve(self, ridge: float) -> Tensor:
        """Weights and, in the last row, biases [D + 1, D]; biases are not penalised."""
        penalty = torch.eye(len(self.gram), dtype=self.gram.dtype)
        penalty[-1, -1] = 0
        scale = self.gram.diagonal()[:-1].mean()
        solution: Tensor = torch.linalg.solve(self.gram + ridge * scale * penalty, self.cross)
        return solution

    def error(self, solution: Tensor) -> float:
        """Summed squared error of a solution on these samples."""
        fitted = (solution * (self.gram @ solution - 2 * self.cross)).sum()
        return float(self.squares + fitted)

    def error_of_mean(self, other: Sums) -> float:
        """Summed squared distance of these targets to the mean of another set's targets."""
        solution = torch.zeros_like(self.cross)
        solution[-1] = other.cross[-1] / other.gram[-1, -1]
        return self.error(solution)


class LevelCalibration:
    """Affine map per level of a token sequence.

    Args:
        level_sizes: Number of tokens of each level, in sequence order.
        dim: Width D of a token.
        weight: [L, D, D] of a solved calibration; None before `solve`.
        bias: [L, D].
        explained: Share of each level's variance that calibrated predictions explain on samples
            that they were not fitted to, at most 1 and below 0 if worse than the mean, [L].
        residual: Mean squared error that remains there, [L].
    """

    def __init__(
        self,
        level_sizes: Sequence[int],
        dim: int,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        explained: Tensor | None = None,
        residual: Tensor | None = None,
    ) -> None:
        self.level_sizes = tuple(level_sizes)
        self.dim = dim
        self.weight, self.bias = weight, bias
        self.explained, self.residual = explained, residual
        self._parts: list[list[Sums]] = []

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add a part of the samples, such as a subject's; `solve` leaves out one part at a time.

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
        part = []
        for x_BTD, y_BTD in pairs:
            x, y = x_BTD.reshape(-1, self.dim), y_BTD.reshape(-1, self.dim)
            x = torch.cat([x, x.new_ones(len(x), 1)], 1)
            sums = (x.T @ x).double(), (x.T @ y).double(), y.double().square().sum()
            part.append(Sums(*(one.cpu() for one in sums)))
        self._parts.append(part)

    def solve(self) -> LevelCalibration:
        """The fitted map, each level with the ridge that serves parts it was not fitted to best.

        Raises:
            ValueError: Fewer than two parts were given.
        """
        if len(self._parts) < 2:
            raise ValueError(
                f"solve: expected two or more updates to validate on, got {len(self._parts)}"
            )
        solved = [_solve_level(list(parts)) for parts in zip(*self._parts, strict=True)]
        solutions = torch.stack([solution for solution, _, _ in solved]).float()
        return LevelCalibration(
            self.level_sizes,
            self.dim,
            solutions[:, :-1].contiguous(),
            solutions[:, -1].contiguous(),
            torch.tensor([explained for _, explained, _ in solved]),
            torch.tensor([residual for _, _, residual in solved]),
        )

    def __call__(self, predicted: Tensor) -> Tensor:
        """Calibrated features [B, T, D] from predictions [B, T, D].

        Raises:
            ValueError: The calibration has not been solved.
        """
        if self.weight is None or self.bias is None:
            raise ValueError(UNFITTED)
        levels = predicted.split(self.level_sizes, 1)
        maps = zip(
            levels, self.weight.to(predicted.device), self.bias.to(predicted.device), strict=True
        )
        mapped = [x @ w + b for x, w, b in maps]
        return torch.cat(mapped, 1)

    def level_weights(self) -> tuple[float, ...]:
        """How much an inversion should trust each level: explained share over remaining error.

        Each token counts, so that a level of many tokens weighs more than one of few, as in a
        likelihood. The weights sum to one; a level that explains nothing has none. They are equal
        if no level explains anything.

        Raises:
            ValueError: The calibration has not been solved.
        """
        if self.explained is None or self.residual is None:
            raise ValueError(UNFITTED)
        weights = torch.tensor(self.level_sizes) * self.explained.clamp(min=0) / self.residual
        if not weights.any():
            weights = torch.ones_like(weights)
        return tuple((weights / weights.sum()).tolist())

    def save(self, path: Path) -> None:
        """Write the map as safetensors."""
        names = ("weight", "bias", "explained", "residual")
        tensors = {name: getattr(self, name) for name in names}
        if any(value is None for value in tensors.values()):
            raise ValueError(UNFITTED)
        tensors["level_sizes"] = torch.tensor(self.level_sizes)
        write_whole(path, lambda temporary: save_file(tensors, temporary))

    @classmethod
    def load(cls, path: Path) -> LevelCalibration:
        """Read what `save` wrote."""
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        sizes = tensors.pop("level_sizes").tolist()
        return cls(sizes, tensors["weight"].shape[-1], **tensors)


def _solve_level(parts: list[Sums]) -> tuple[Tensor, float, float]:
    """Solution on all parts, and explained share and mean squared error on parts left out."""
    everything = parts[0]
    for part in parts[1:]:
        everything = everything.add(part)
    others = [everything.add(part, -1) for part in parts]
    pairs = list(zip(parts, others, strict=True))
    errors = {
        ridge: sum(part.error(other.solve(ridge)) for part, other in pairs) for ridge in RIDGES
    }
    best = min(errors, key=errors.__getitem__)
    spread = sum(part.error_of_mean(other) for part, other in pairs)
    values = float(everything.gram[-1, -1]) * everything.cross.shape[1]
    return everything.solve(best), 1 - errors[best] / spread, errors[best] / values
