"""A matrix too large for memory, one tile after the other in the same place."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def blocks(tensors: list[Tensor], size: int) -> Iterator[tuple[Tensor, ...]]:
    """Several tensors together, `size` rows at a time."""
    return zip(*(tensor.split(size) for tensor in tensors), strict=True)


def logits(part: Tensor, other: Tensor, space: Tensor) -> Tensor:
    """``part @ other.T`` in the beginning of `space`."""
    return torch.mm(part, other.T, out=tile(space, part, other))


def tile(space: Tensor, part: Tensor, other: Tensor) -> Tensor:
    """The beginning of `space` as a tile of the logits of some rows and some columns."""
    return space[: len(part) * len(other)].view(len(part), len(other))
