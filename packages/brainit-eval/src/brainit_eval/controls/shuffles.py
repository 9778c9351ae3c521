"""Pairing each test brain with another image: what the prior alone scores."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def derangement(n: int, generator: torch.Generator) -> Tensor:
    """A permutation ``[n]`` int64 that leaves nothing in place, uniform among all such.

    Raises:
        ValueError: If ``n`` is below 2.
    """
    if n < 2:
        raise ValueError(f"derangement: expected 2 items or more, got {n}")
    places = torch.arange(n)
    while True:  # about one permutation in e is a derangement
        order = torch.randperm(n, generator=generator)
        if bool((order != places).all()):
            return order


def shuffled(images: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Pair each test brain with another image: the control for what the prior alone scores.

    Args:
        images: Per subject, ``[n, ...]``; only the number counts.
        seed: Seed; each subject gets its own derangement.

    Returns:
        Per subject a derangement ``[n]`` for the ``pairing`` of `Scorer.score`.
    """
    generator = torch.Generator().manual_seed(seed)
    return {subject: derangement(len(values), generator) for subject, values in images.items()}
