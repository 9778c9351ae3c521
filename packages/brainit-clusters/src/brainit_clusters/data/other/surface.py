"""Betas on the cortical surface: GIFTI and CIFTI files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from nibabel.cifti2.cifti2 import Cifti2Image
from nibabel.cifti2.cifti2_axes import BrainModelAxis
from nibabel.gifti.gifti import GiftiImage
from numpy.typing import NDArray

from brainit_clusters.data.other.arrays import check_numbers
from brainit_clusters.data.other.table import TrialTable
from brainit_clusters.data.other.trials import Joined, TrialData
from brainit_clusters.data.places import Places
from brainit_clusters.data.scans import load, reading

_CORTEX = ("CIFTI_STRUCTURE_CORTEX_LEFT", "CIFTI_STRUCTURE_CORTEX_RIGHT")
_Paths = str | Path | Sequence[str | Path]


def read_gifti(
    name: str, left: _Paths, right: _Paths, table: TrialTable, *, space: str = "unknown"
) -> TrialData:
    """One subject whose betas are GIFTI files, a data array a trial.

    Args:
        name: The subject's name.
        left: `.func.gii` of the left hemisphere; several: their trials follow each other.
        right: The same of the right hemisphere.
        table: The trials of all files.
        space: Name of the mesh, such as "fsaverage".

    Raises:
        FileNotFoundError, ValueError: naming the file, the field and what was expected.
    """
    sides = [Joined([GiftiBetas(path) for path in _listed(paths)]) for paths in (left, right)]
    shape = tuple(side.shape[1] for side in sides)
    places = Places.surface([np.arange(n_vertices) for n_vertices in shape], shape)
    return TrialData(name, Joined(sides, beside=True), table, places, space=space)


def read_cifti(name: str, betas: _Paths, table: TrialTable, *, space: str = "unknown") -> TrialData:
    """One subject whose betas are CIFTI files (`.dscalar.nii`, `.dtseries.nii`), a row a trial.

    Vertices of the left and of the right cortex are kept with their numbers on the mesh;
    subcortical voxels are left out.

    Args:
        name: The subject's name.
        betas: One file, or several whose trials follow each other.
        table: The trials of all files.
        space: Name of the mesh, such as "fsLR-32k".

    Raises:
        FileNotFoundError, ValueError: naming the file, the field and what was expected.
    """
    parts = [CiftiBetas(path) for path in _listed(betas)]
    for part in parts[1:]:
        same = zip(part.vertices, parts[0].vertices, strict=True)
        if part.n_vertices != parts[0].n_vertices or not all(np.array_equal(*s) for s in same):
            first = parts[0].files[0]
            raise ValueError(f"{part.files[0]}: cortex vertices differ from those of {first}")
    places = Places.surface(parts[0].vertices, parts[0].n_vertices)
    return TrialData(name, Joined(parts), table, places, space=space)


def _listed(paths: _Paths) -> list[Path]:
    found = [paths] if isinstance(paths, str | Path) else list(paths)
    if not found:
        raise ValueError("no beta files, expected at least one")
    return [Path(path) for path in found]


class GiftiBetas:
    """Betas of one hemisphere in one GIFTI file; see `Betas`."""

    def __init__(self, path: Path) -> None:
        self.files: tuple[Path, ...] = (path,)
        arrays = load(path, "betas of a hemisphere", GiftiImage).darrays
        if not arrays:
            raise ValueError(f"{path}: no data arrays, expected one a trial")
        for trial, array in enumerate(arrays):
            shape = np.shape(array.data)
            if len(shape) != 1 or shape != np.shape(arrays[0].data):
                raise ValueError(
                    f"{path}: data array {trial} has shape {shape}, expected (n_vertices,)"
                )
            check_numbers(path, array.data.dtype)
        self._values = np.stack([array.data for array in arrays]).astype(np.float32)
        self.shape = (len(arrays), self._values.shape[1])

    def read(self, trials: NDArray[np.intp]) -> NDArray[np.float32]:
        """See `Betas.read`."""
        return self._values[trials]


class CiftiBetas:
    """Cortical betas in one CIFTI file; see `Betas`."""

    def __init__(self, path: Path) -> None:
        self.files: tuple[Path, ...] = (path,)
        self._image = load(path, "CIFTI betas", Cifti2Image)
        with reading(path):
            axis = self._image.header.get_axis(1) if len(self._image.shape) == 2 else None
            if not isinstance(axis, BrainModelAxis):
                raise ValueError(
                    f"{path}: axes are not (trials, brain models), expected .dscalar or .dtseries"
                )
            check_numbers(path, self._image.get_data_dtype())
            self._columns = [np.flatnonzero(axis.name == side) for side in _CORTEX]
            self.vertices = [axis.vertex[columns] for columns in self._columns]
            self.n_vertices = tuple(int(axis.nvertices.get(side, 0)) for side in _CORTEX)
            if len(axis) != self._image.shape[1]:
                raise ValueError(
                    f"{path}: {self._image.shape[1]} columns, brain models say {len(axis)}"
                )
        if not sum(map(len, self._columns)):
            raise ValueError(f"{path}: brain models hold no cortex, expected {_CORTEX}")

    @property
    def shape(self) -> tuple[int, int]:
        """n_trials, n_voxels."""
        return int(self._image.shape[0]), sum(map(len, self._columns))

    def read(self, trials: NDArray[np.intp]) -> NDArray[np.float32]:
        """See `Betas.read`."""
        first = int(trials[0])
        with reading(self.files[0]):
            slab = np.asarray(self._image.dataobj[first : int(trials[-1]) + 1])
        columns = np.concatenate(self._columns)
        return np.array(slab[trials - first][:, columns], np.float32, order="C")
