"""Pictures read in batches from whatever holds them: a tensor, a memory map, an HDF5 data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

BATCH = 32
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


def batches(images: PictureArray, name: str = "images", size: int = BATCH) -> Iterator[Tensor]:
    """Pictures in batches ``[b, 3, H, W]``, float32 or float64 in [0, 1].

    Raises:
        ValueError: If the shape is another, or a pixel is NaN, infinite or outside [0, 1].
    """
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[1] != 3 or 0 in shape:
        raise ValueError(f"{name}: expected shape [n, 3, H, W], got {list(shape)}")
    for start in range(0, shape[0], size):
        yield _as_float(images[start : start + size], name, start)


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
    shape, expected = tuple(images.shape), tuple(truth.shape)
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


def _as_float(values: Any, name: str, start: int) -> Tensor:
    batch = values if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
    if batch.dtype == torch.uint8:
        return batch.float() / 255
    if not batch.is_floating_point():
        raise ValueError(f"{name}: expected uint8 or floating point, got {batch.dtype}")
    bad = ~((batch >= 0) & (batch <= 1)).flatten(1).all(1)  # NaN fails both
    if bad.any():
        index = start + int(bad.nonzero()[0])
        raise ValueError(f"{name}: image {index} holds NaN or values outside [0, 1]")
    return batch.float() if batch.dtype in (torch.float16, torch.bfloat16) else batch
