"""Query tokens that know their place from the start."""

from __future__ import annotations

from collections.abc import Sequence
from math import tau

import torch
from torch import Generator, Tensor

FREQUENCY = 6.0
"""Standard deviation of the frequencies, in radians a side: neighbours within a sixth agree."""


def grid_queries(sides: Sequence[int], dim: int, generator: Generator) -> Tensor:
    """Starting values for query tokens that lie on square grids, one grid a level.

    Random Fourier features of a token's place, plus a random vector of its level: tokens that are
    near each other start alike, so that what one of them learns serves its neighbours. Published
    query tokens start small and random, and each has to be drawn often to learn its place; a short
    training has no time for that.

    Args:
        sides: Tokens along a side of each level; level l has ``sides[l] ** 2`` tokens, by rows.
        dim: Width D of a token.
        generator: CPU generator of frequencies, phases and level vectors.

    Returns:
        Query tokens, float32 [sum of sides^2, D], of about unit variance.
    """
    frequencies = FREQUENCY * torch.randn(dim, 2, generator=generator)
    phases = tau * torch.rand(dim, generator=generator)
    levels = torch.randn(len(sides), dim, generator=generator)
    tokens = []
    for side, level in zip(sides, levels, strict=True):
        line = (torch.arange(side) + 0.5) / side
        places = torch.cartesian_prod(line, line)
        tokens.append(torch.cos(places @ frequencies.T + phases) + level / 2**0.5)
    return torch.cat(tokens)
