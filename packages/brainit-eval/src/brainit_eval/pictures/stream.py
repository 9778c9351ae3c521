"""Pictures read in batches from whatever holds them: a tensor, a memory map, an HDF5 data set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from brainit_eval.pictures.checks import check_values

FeatureFunction = Callable[[Tensor], Mapping[str, Tensor]]
"""Images ``[n, 3, H, W]`` in [0, 1] to named features ``[n, ...]``."""

_BATCH = 32
_SIDE = 32  # of a thumbnail


class PictureArray(Protocol):
    """Anything of shape ``[n, 3, H, W]`` that can be sliced: float in [0, 1], or uint8.

    Tensors, arrays, ``numpy.memmap`` and ``h5py.Dataset`` all are; only a slice is ever read.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n, 3, H, W)``."""

    def __getitem__(self, index: Any, /) -> Any:
        """The pictures of a slice."""


class Taken:
    """Rows of other pictures in any order, read when asked for: a permutation, a look-up."""

    def __init__(self, images: PictureArray, order: np.ndarray) -> None:
        """Look at `images` in the given order.

        Args:
            images: ``[m, 3, H, W]``.
            order: ``[n]`` rows of it.

        Raises:
            ValueError: If a row is not there.
        """
        if order.size and not 0 <= order.min() <= order.max() < images.shape[0]:
            raise ValueError(f"order: expected rows of {images.shape[0]} images, got others")
        self.images, self.order = images, order
        self.shape = (len(order), *images.shape[1:])

    def __getitem__(self, index: Any, /) -> Tensor:
        """The pictures of a slice."""
        rows = self.order[index].tolist()
        return torch.cat([_as_float(self.images[row : row + 1], "images", row) for row in rows])


class Resized:
    """Other pictures at another size (bicubic, antialiased), resized when asked for."""

    def __init__(self, images: PictureArray, height: int, width: int) -> None:
        """Look at `images` as ``[n, 3, height, width]``."""
        self.images = images
        self.shape = (*images.shape[:2], height, width)

    def __getitem__(self, index: Any, /) -> Tensor:
        """The pictures of a slice."""
        pictures = _as_float(self.images[index], "images", index.start or 0)
        if pictures.shape[-2:] == self.shape[-2:]:
            return pictures
        return interpolate(pictures, self.shape[-2:], mode="bicubic", antialias=True).clamp(0, 1)


def picture_shape(images: PictureArray, name: str) -> tuple[int, ...]:
    """``(n, 3, H, W)``.

    Raises:
        TypeError: If it is nothing that has a shape.
        ValueError: If the shape is another.
    """
    if not hasattr(images, "shape"):
        raise TypeError(f"{name}: expected pictures [n, 3, H, W], got {type(images).__name__}")
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[1] != 3 or 0 in shape:
        raise ValueError(f"{name}: expected shape [n, 3, H, W], got {list(shape)}")
    return shape


def batches(images: PictureArray, name: str = "images") -> Iterator[Tensor]:
    """Pictures in batches ``[b, 3, H, W]``, float32 or float64 in [0, 1]; none holds one of many.

    Raises:
        ValueError: If the shape is another, or a pixel is NaN, infinite or outside [0, 1].
    """
    shape = picture_shape(images, name)
    count = math.ceil(shape[0] / _BATCH)
    ends = [shape[0] * k // count for k in range(count + 1)]
    for start, end in pairwise(ends):
        yield _as_float(images[start:end], name, start)


def paired_batches(
    images: PictureArray, truth: PictureArray, smallest: int = 1
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of reconstructions beside those of the images seen, paired by position.

    Args:
        images: Reconstructions.
        truth: The images seen, same shape.
        smallest: Shortest side in pixels that the caller can do with.

    Raises:
        ValueError: If shapes differ, a side is too short, there are fewer than two images, or as
            `batches`.
    """
    shape, expected = picture_shape(images, "images"), picture_shape(truth, "truth")
    if shape != expected:
        raise ValueError(f"images: expected the truth's shape {list(expected)}, got {list(shape)}")
    if shape[0] < 2 or min(shape[-2:]) < smallest:
        raise ValueError(
            f"images: expected 2 or more with sides of {smallest} pixels or more, got {list(shape)}"
        )
    return zip(batches(images), batches(truth, "truth"), strict=True)


def thumbnails(images: Tensor) -> dict[str, Tensor]:
    """Colours on a 32 x 32 grid: layout and colour without detail, a network of no weights.

    Args:
        images: ``[n, 3, H, W]`` in [0, 1].

    Returns:
        ``thumbnail`` ``[n, 3072]``.
    """
    return {"thumbnail": adaptive_avg_pool2d(images.float(), _SIDE).flatten(1)}


@torch.inference_mode()
def extract(images: PictureArray, function: FeatureFunction, name: str = "images") -> Tensor:
    """The last of a function's features of all pictures, ``[n, D]`` float32, batch by batch."""
    parts = [list(function(batch).values())[-1] for batch in batches(images, name)]
    return torch.cat([part.flatten(1).float().cpu() for part in parts])


def _as_float(values: Any, name: str, start: int) -> Tensor:
    batch = values if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
    if batch.dtype == torch.uint8:
        return batch.float() / 255
    if not batch.is_floating_point():
        raise ValueError(f"{name}: expected uint8 or floating point, got {batch.dtype}")
    check_values(batch, name, range(start, start + len(batch)))
    return batch.float() if batch.dtype in (torch.float16, torch.bfloat16) else batch
