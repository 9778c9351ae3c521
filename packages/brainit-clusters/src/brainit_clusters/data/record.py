"""`SubjectData`: what a dataset holds of one subject."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class SubjectData:
    """One subject: responses of its voxels to its images, and where these voxels lie.

    A voxel here is a vertex of the cortical mesh or a cell of a volume; its column never changes
    place. A row is an image (mean over its repeats) or, with `trial`, a single trial.

    Attributes:
        name: "subj01" and so on.
        betas: float32 [n_rows, n_voxels], z-scored. `write_dataset` takes anything that has a
            shape and is sliced by rows, so that they need not be in memory.
        image_id: int64 [n_rows], 0-based; ascending without doubles unless rows are trials.
        repeats: int16 [n_rows], trials averaged in each row.
        split: str [n_rows], "train", "val" or "test".
        vertex: int32 [n_voxels], vertex number in its hemisphere, 0-based.
        hemisphere: uint8 [n_voxels], 0 left, 1 right, 2 neither: `vertex` is then the voxel's
            index in the flattened volume (last axis fastest) or, of an array, its column.
        noise_ceiling: float32 [n_voxels] in [0, 1], share of the variance (R^2) of `betas` that
            a perfect model could explain; NaN where no image was repeated.
        roi: atlas name -> int32 [n_voxels] labels (0: none).
        roi_labels: atlas name -> label -> name.
        ijk: int32 [n_voxels, 3], 0-based place in the volume; None on a mesh.
        affine: float64 [4, 4], from `ijk` to millimetres; None where `ijk` is.
        trial: int32 [n_rows], ascending: which of the subject's trials (0-based, of all that
            happened) each row is; None where rows are averages.
        attributes: what else is known, such as how many vertices were dropped (JSON values).
    """

    name: str
    betas: NDArray[np.float32]
    image_id: NDArray[np.int64]
    repeats: NDArray[np.int16]
    split: NDArray[np.str_]
    vertex: NDArray[np.int32]
    hemisphere: NDArray[np.uint8]
    noise_ceiling: NDArray[np.float32]
    roi: Mapping[str, NDArray[np.int32]] = field(default_factory=dict)
    roi_labels: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    ijk: NDArray[np.int32] | None = None
    affine: NDArray[np.float64] | None = None
    trial: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        n_rows, n_voxels = self.betas.shape
        per_row = ("image_id", "repeats", "split")
        per_voxel = ("vertex", "hemisphere", "noise_ceiling")
        for names, length in ((per_row, n_rows), (per_voxel, n_voxels)):
            for name in names:
                self._check(name, getattr(self, name), length)
        for name, labels in self.roi.items():
            self._check(f"roi/{name}", labels, n_voxels)
        self._check_volume(n_voxels)
        if self.trial is not None:
            self._check("trial", self.trial, n_rows)
        name = "image_id" if self.trial is None else "trial"
        if np.any(np.diff(getattr(self, name)) <= 0):
            raise ValueError(f"{self.name}: {name} must ascend without doubles")
        if unknown := set(np.unique(self.split)) - set(SPLITS):
            raise ValueError(f"{self.name}: split holds {sorted(unknown)}, expected {SPLITS}")

    def _check(self, name: str, values: NDArray[Any], length: int) -> None:
        if values.shape != (length,):
            raise ValueError(f"{self.name}: {name} has shape {values.shape}, expected ({length},)")

    def _check_volume(self, n_voxels: int) -> None:
        for name, shape in (("ijk", (n_voxels, 3)), ("affine", (4, 4))):
            values = getattr(self, name)
            if (values is None) != (self.ijk is None):
                raise ValueError(f"{self.name}: ijk and affine go together, one of them is None")
            if values is not None and values.shape != shape:
                raise ValueError(f"{self.name}: {name} has shape {values.shape}, expected {shape}")

    @property
    def n_voxels(self) -> int:
        """Number of voxels."""
        return len(self.vertex)

    def rows(self, split: str) -> NDArray[np.intp]:
        """Rows of `betas` that belong to a split ("train", "val" or "test"), ascending.

        Raises:
            ValueError: if there is no such split.
        """
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}, expected one of {SPLITS}")
        return np.flatnonzero(self.split == split)
