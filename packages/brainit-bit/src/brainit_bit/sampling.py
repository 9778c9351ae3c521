"""Random voxels and random query tokens for one training step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor


def draw_voxels(
    n_voxels: int, n_draws: int, batch: int, generator: Generator, replacement: bool = True
) -> Tensor:
    """Draw voxels for every sample and count how often each was drawn.

    Args:
        n_voxels: Voxels of the subject.
        n_draws: Draws a sample (Brain-IT, arXiv 2510.25976: 15,000).
        batch: Number of samples, B.
        generator: Source of randomness; its device is the result's.
        replacement: Whether a voxel may be drawn more than once.

    Returns:
        Multiplicities, float32 [B, n_voxels]; every row sums to n_draws.

    Raises:
        ValueError: If n_draws is below 1, or above n_voxels without replacement.
    """
    if n_draws < 1 or (n_draws > n_voxels and not replacement):
        limit = "1 or more" if replacement else f"1 to {n_voxels} without replacement"
        raise ValueError(f"n_draws: expected {limit}, got {n_draws}")
    device = generator.device
    if replacement:
        drawn = torch.randint(n_voxels, (batch, n_draws), generator=generator, device=device)
    else:
        drawn = torch.rand(batch, n_voxels, generator=generator, device=device)
        drawn = drawn.topk(n_draws).indices
    counts = torch.zeros(batch, n_voxels, device=device)
    return counts.scatter_add_(1, drawn, torch.ones(batch, n_draws, device=device))


def draw_queries(
    level_sizes: Sequence[int],
    per_level: Sequence[int],
    generator: Generator,
    batch: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw query tokens of every level, without replacement.

    The tokens of all levels are numbered one level after the other.

    Args:
        level_sizes: Tokens in each level (Brain-IT, arXiv 2510.25976: 56^2, 55^2, 28^2, 14^2, 7^2).
        per_level: Tokens to draw from each (Brain-IT: 512, 512, 128, 64, 16).
        generator: Source of randomness; its device is the results'.
        batch: None for one draw that all samples share, or B for one draw a sample.

    Returns:
        Token numbers, int64 [Q] or [B, Q], ascending inside a level, and their levels, int64 [Q].

    Raises:
        ValueError: If a level holds fewer tokens than are asked of it.
    """
    if len(level_sizes) != len(per_level):
        raise ValueError(
            f"per_level: expected {len(level_sizes)} numbers, one a level, got {len(per_level)}"
        )
    device, first, queries = generator.device, 0, []
    for level, (size, count) in enumerate(zip(level_sizes, per_level, strict=True)):
        if not 0 <= count <= size:
            raise ValueError(f"per_level[{level}]: expected 0 to {size} tokens, got {count}")
        keys = torch.rand(batch or 1, size, generator=generator, device=device)
        queries.append(keys.topk(count).indices.sort().values + first)
        first += size
    drawn = torch.cat(queries, 1)
    levels = torch.arange(len(per_level), device=device)
    levels = levels.repeat_interleave(torch.tensor(per_level, device=device))
    return (drawn[0] if batch is None else drawn), levels
