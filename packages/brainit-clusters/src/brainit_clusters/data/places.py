"""Where voxels lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Places:
    """Where voxels lie; see `SubjectData`.

    Attributes:
        vertex: int32 [n_voxels].
        hemisphere: uint8 [n_voxels], 0 left, 1 right, 2 neither.
        ijk: int32 [n_voxels, 3] in a volume, or None.
        affine: float64 [4, 4] with `ijk`, or None.
        shape: Cells of the whole volume along X, Y, Z, or vertices of the whole left and right
            mesh (0: no such mesh); None if that is not known.
    """

    vertex: NDArray[np.int32]
    hemisphere: NDArray[np.uint8]
    ijk: NDArray[np.int32] | None = None
    affine: NDArray[np.float64] | None = None
    shape: tuple[int, ...] | None = None

    @classmethod
    def unknown(cls, n_voxels: int) -> Places:
        """Voxels known by their column alone."""
        return cls(np.arange(n_voxels, dtype=np.int32), np.full(n_voxels, 2, np.uint8))

    @classmethod
    def volume(cls, mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> Places:
        """The voxels inside a mask [X, Y, Z], last axis fastest."""
        flat = np.flatnonzero(mask).astype(np.int32)
        ijk = np.argwhere(mask).astype(np.int32)
        neither = np.full(len(flat), 2, np.uint8)
        return cls(flat, neither, ijk, np.asarray(affine, np.float64), mask.shape)

    @classmethod
    def surface(
        cls, sides: Sequence[NDArray[np.integer]], shape: tuple[int, ...] | None = None
    ) -> Places:
        """Given vertices of the left and of the right hemisphere, and how many there are."""
        hemisphere = np.repeat(np.arange(2, dtype=np.uint8), [len(side) for side in sides])
        return cls(np.concatenate(sides).astype(np.int32), hemisphere, shape=shape)
