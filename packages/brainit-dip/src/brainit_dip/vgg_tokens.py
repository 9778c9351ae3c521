"""Feature maps as one sequence of tokens of equal width, and back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from brainit_dip.vgg import VGGFeatures

PATCH = 2
RGB = 3


class VGGTokens:
    """Pack the feature maps of a VGG into tokens, and unpack them; an exact inverse pair.

    Low-level branch of Brain-IT (arXiv 2510.25976). Level 1 gives its 2x2 patches without overlap,
    level 2 its 2x2 patches at stride 1, every further level one token per position. A thumbnail,
    the last level if there is one, is cut like level 1. Tokens are as wide as the widest level
    needs; narrower values are repeated until they fill the token. Unpacking averages repeats and
    overlaps. Tokens are ordered by level, then row, then column.

    Attributes:
        level_sizes: Number of tokens of each level; for VGG16 at 112 px
            56^2, 55^2, 28^2, 14^2, 7^2.
        n_tokens: Their sum, 7,190 for VGG16 at 112 px.
        token_dim: Width of a token, 512 for VGG16.
    """

    def __init__(self, channels: Sequence[int], image_size: int, thumbnail: int = 0) -> None:
        """Describe the maps of a network.

        Args:
            channels: Width of each level's map; [64, 128, 256, 512, 512] for VGG16.
            image_size: Side of the first map in pixels; each further map is half the one before
                (rounded down). Even, because level 1 is cut into 2x2 patches without overlap.
            thumbnail: Side of the thumbnail that is the last map, even; 0 for none.

        Raises:
            ValueError: If the sizes cannot be cut into tokens.
        """
        if not channels or any(not isinstance(c, int) or c < 1 for c in channels):
            raise ValueError(f"channels: expected one width per level, got {channels}")
        sides = [image_size >> level for level in range(len(channels))]
        if image_size % PATCH or sides[-1] < 1 or (len(sides) > 1 and sides[1] < PATCH):
            raise ValueError(f"image_size {image_size}: too small or odd for {len(sides)} levels")
        if thumbnail < 0 or thumbnail % PATCH:
            raise ValueError(f"thumbnail {thumbnail}: expected an even side, or 0")
        self._strides = [PATCH, 1, *[0] * len(channels)][: len(channels)]
        if thumbnail:
            channels, sides = [*channels, RGB], [*sides, thumbnail]
            self._strides.append(PATCH)
        self.map_shapes = [(c, s, s) for c, s in zip(channels, sides, strict=True)]
        counts = [_side(s, stride) for s, stride in zip(sides, self._strides, strict=True)]
        self.level_sizes = [count**2 for count in counts]
        self.n_tokens = sum(self.level_sizes)
        self._widths = [
            c * PATCH**2 if stride else c for c, stride in zip(channels, self._strides, strict=True)
        ]
        self.token_dim = max(self._widths)

    @classmethod
    def of(cls, vgg: VGGFeatures) -> VGGTokens:
        """For the maps of a VGG."""
        return cls(vgg.widths, vgg.image_size, vgg.thumbnail)

    @property
    def levels(self) -> Tensor:
        """Level (from 0) of each token, int64 [n_tokens]."""
        return torch.repeat_interleave(torch.tensor(self.level_sizes))

    def pack(self, maps: Sequence[Tensor]) -> Tensor:
        """Feature maps to tokens.

        Args:
            maps: One [B, C, side, side] per level, as `VGGFeatures` gives them.

        Returns:
            Tokens [B, n_tokens, token_dim].
        """
        self._check_maps(maps)
        rows = []
        for x, stride, width in zip(maps, self._strides, self._widths, strict=True):
            values = F.unfold(x, PATCH, stride=stride) if stride else x.flatten(2)
            repeats = -(-self.token_dim // width)
            rows.append(values.repeat(1, repeats, 1)[:, : self.token_dim].transpose(1, 2))
        return torch.cat(rows, dim=1)

    def flatten(self, maps: Sequence[Tensor]) -> Tensor:
        """All values of feature maps in one row an image, [B, n_values]; what `take` reads."""
        self._check_maps(maps)
        return torch.cat([x.flatten(1) for x in maps], dim=1)

    def take(self, values: Tensor, tokens: Tensor) -> Tensor:
        """Some tokens alone, equal to `pack(maps)[:, tokens]` without packing the others.

        Args:
            values: Flattened maps [B, n_values].
            tokens: Token numbers [Q], int64, on the values' device.

        Returns:
            Tokens [B, Q, token_dim].
        """
        self._places = self._places.to(values.device)  # it stays there
        return values[:, self._places[tokens]]

    @cached_property
    def _places(self) -> Tensor:
        """Where `flatten` puts each value of each token, int64 [n_tokens, token_dim]."""
        sizes = [prod(shape) for shape in self.map_shapes]
        numbers = torch.arange(sum(sizes), dtype=torch.float64).split(sizes)
        maps = [x.view(1, *shape) for x, shape in zip(numbers, self.map_shapes, strict=True)]
        return self.pack(maps)[0].long()

    def unpack(self, tokens: Tensor) -> list[Tensor]:
        """Tokens to feature maps, averaging repeated values and overlapping patches.

        Args:
            tokens: [B, n_tokens, token_dim].

        Returns:
            One map [B, C, side, side] per level.
        """
        if tokens.ndim != 3 or tuple(tokens.shape[1:]) != (self.n_tokens, self.token_dim):
            expected = f"[B, {self.n_tokens}, {self.token_dim}]"
            raise ValueError(f"tokens: expected {expected}, got {list(tokens.shape)}")
        parts = tokens.transpose(1, 2).split(self.level_sizes, dim=2)
        plan = zip(parts, self.map_shapes, self._strides, self._widths, strict=True)
        return [_to_map(_mean_of_repeats(x, w), shape, stride) for x, shape, stride, w in plan]

    def _check_maps(self, maps: Sequence[Tensor]) -> None:
        shapes = [tuple(x.shape[1:]) for x in maps]
        if shapes != self.map_shapes or len({x.shape[0] for x in maps}) != 1:
            found = [list(x.shape) for x in maps]
            raise ValueError(f"maps: expected [B, C, H, W] of {self.map_shapes}, got {found}")


def _side(side: int, stride: int) -> int:
    """Tokens along one side of a map."""
    return (side - PATCH) // stride + 1 if stride else side


def _mean_of_repeats(values: Tensor, width: int) -> Tensor:
    """[B, D, L] -> [B, width, L]: the mean over the copies of each value (the last may be cut)."""
    dim = values.shape[1]
    if dim == width:
        return values
    repeats = -(-dim // width)
    padded = F.pad(values, (0, 0, 0, repeats * width - dim))
    complete = torch.arange(width, device=values.device) < dim - (repeats - 1) * width
    counts = repeats - 1 + complete.to(values.dtype)
    mean: Tensor = padded.unflatten(1, (repeats, width)).sum(1) / counts[:, None]
    return mean


def _to_map(values: Tensor, shape: tuple[int, int, int], stride: int) -> Tensor:
    """[B, values, L] -> [B, C, side, side], the mean over overlapping patches."""
    if not stride:
        return values.reshape(-1, *shape)
    total = F.fold(values, shape[1:], PATCH, stride=stride)
    ones = values.new_ones(1, PATCH**2, values.shape[2])
    return total / F.fold(ones, shape[1:], PATCH, stride=stride)
