"""Stimulus images of any size, as a dataset stores them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from brainit_clusters.data.other.arrays import StoredArray


class ResizedImages:
    """Chosen images of a stimulus array, resized as they are read.

    Args:
        images: uint8 [n, H, W, 3].
        image_id: Rows to take, ascending.
        size: Side in pixels; bicubic with antialiasing, nothing done where it fits already.
    """

    def __init__(self, images: StoredArray, image_id: NDArray[np.int64], size: int) -> None:
        self._images, self._ids, self._size = images, image_id, size

    @property
    def shape(self) -> tuple[int, ...]:
        """[n, size, size, 3]."""
        return (len(self._ids), self._size, self._size, 3)

    def __getitem__(self, rows: slice) -> NDArray[np.uint8]:
        return np.stack([resize(image, self._size) for image in self._images.each(self._ids[rows])])


def resize(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize a uint8 [H, W, 3] image to [size, size, 3], bicubic with antialiasing."""
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
