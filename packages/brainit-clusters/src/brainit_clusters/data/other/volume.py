"""Betas in volumes: NIfTI files and GLMsingle's output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from brainit_clusters.data.other.arrays import ArrayBetas, check_numbers, open_array
from brainit_clusters.data.other.table import TrialTable
from brainit_clusters.data.other.trials import Joined, TrialData
from brainit_clusters.data.places import Places
from brainit_clusters.data.scans import load, reading

# Affines are stored as float32 in millimetres; a tenth of a micrometre is rounding.
_SAME_PLACE = 1e-4
_FIELD = "betasmd"


def read_nifti(
    name: str, betas: str | Path | Sequence[str | Path], mask: str | Path, table: TrialTable
) -> TrialData:
    """One subject whose betas are 4-D NIfTI files, trials last, with a mask image.

    Args:
        name: The subject's name.
        betas: One file, or several whose trials follow each other.
        mask: NIfTI image on the same grid; voxels above zero are taken.
        table: The trials of all files.

    Raises:
        FileNotFoundError, ValueError: naming the file, the field and what was expected.
    """
    inside, affine = read_mask(mask)
    paths = [betas] if isinstance(betas, str | Path) else list(betas)
    if not paths:
        raise ValueError(f"{name}: no beta files, expected at least one")
    parts = [_NiftiBetas(Path(path), inside, affine, Path(mask)) for path in paths]
    values = Joined(parts)
    return TrialData(name, values, table, Places.volume(inside, affine), space="volume")


def read_glmsingle(
    name: str, betas: str | Path, table: TrialTable, *, mask: str | Path | None = None
) -> TrialData:
    """One subject from GLMsingle's `TYPED_FITHRF_GLMDENOISE_RR.hdf5`.

    Its `betasmd` is (X, Y, Z, trials) or (voxels, trials); the trials follow the design that
    GLMsingle was given, run after run, and the table must list them so.

    Args:
        name: The subject's name.
        betas: The file, or "file.h5:/dataset" where the field lies elsewhere.
        table: Its trials.
        mask: NIfTI image of the voxels to take; GLMsingle itself knows no affine, so without a
            mask voxels have numbers but no place.

    Raises:
        FileNotFoundError, ValueError: naming the file, the field and what was expected.
    """
    if Path(betas).suffix == ".npy":
        raise ValueError(
            f"{betas}: GLMsingle's .npy is a pickle, which can run code when it is read; "
            "expected the .hdf5 that GLMsingle writes with wanthdf5=1"
        )
    source = f"{betas}:/{_FIELD}" if Path(betas).is_file() else betas
    array = open_array(source)
    if mask is None:
        values = ArrayBetas(array, last=True)
        return TrialData(name, values, table, Places.unknown(values.shape[1]))
    inside, affine = read_mask(mask)
    values = ArrayBetas(array, last=True, mask=inside)
    return TrialData(name, values, table, Places.volume(inside, affine), space="volume")


def read_mask(path: str | Path) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """A 3-D NIfTI mask: where it is above zero, bool [X, Y, Z], and its affine.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is not 3-D, or empty.
    """
    path = Path(path)
    image = load(path, "a mask image", nib.Nifti1Image)
    shape = image.shape
    if len(shape) < 3 or any(length != 1 for length in shape[3:]):
        raise ValueError(f"{path}: mask has shape {shape}, expected (X, Y, Z)")
    with reading(path):
        inside = np.asarray(image.dataobj).reshape(shape[:3]) > 0
    if not inside.any():
        raise ValueError(f"{path}: mask holds no voxel above zero")
    return inside, np.asarray(image.affine, np.float64)


class _NiftiBetas:
    def __init__(
        self, path: Path, inside: NDArray[np.bool_], affine: NDArray[np.float64], mask: Path
    ) -> None:
        self.files: tuple[Path, ...] = (path,)
        self._image = load(path, "4-D betas", nib.Nifti1Image)
        self._inside = inside
        shape = self._image.shape
        if len(shape) != 4 or shape[:3] != inside.shape:
            raise ValueError(
                f"{path}: shape {shape}, expected {(*inside.shape, 'n_trials')} as mask {mask}"
            )
        check_numbers(path, self._image.get_data_dtype())
        if not np.allclose(self._image.affine, affine, atol=_SAME_PLACE):
            raise ValueError(f"{path}: affine differs from that of mask {mask}")

    @property
    def shape(self) -> tuple[int, int]:
        return int(self._image.shape[3]), int(self._inside.sum())

    def read(self, trials: NDArray[np.intp]) -> NDArray[np.float32]:
        values = np.empty((len(trials), self.shape[1]), np.float32)
        with reading(self.files[0]):
            slab: Any = self._image.dataobj[..., int(trials[0]) : int(trials[-1]) + 1]
            for row, trial in enumerate(trials - trials[0]):
                values[row] = slab[..., trial][self._inside]
        return values
