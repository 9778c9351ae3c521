"""Betas in plain arrays: `.npy`, `.npz` and HDF5."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from brainit_clusters._files import existing
from brainit_clusters.data.hdf5 import dataset_in
from brainit_clusters.data.other.table import TrialTable
from brainit_clusters.data.other.trials import TrialData
from brainit_clusters.data.places import Places
from brainit_clusters.data.scans import reading

_HDF5 = (".h5", ".hdf5", ".hdf")


class StoredArray:
    """An array on disk; nothing but shape and type is read before it is indexed.

    Attributes:
        files: The file.
        shape: Its shape.
        dtype: Its type.
    """

    def __init__(self, path: Path, field: str | None) -> None:
        self.files: tuple[Path, ...] = (path,)
        self._field = field
        self._loaded: NDArray[Any] | None = None
        with self._open() as array:
            self.shape = tuple(int(length) for length in array.shape)
            self.dtype = array.dtype
            if path.suffix == ".npz":
                self._loaded = array

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, where: Any) -> NDArray[Any]:
        with self._open() as array:
            return np.asarray(array[where])

    def each(self, rows: Iterable[int]) -> Iterator[NDArray[Any]]:
        """One row after the other; the file is opened once."""
        with self._open() as array:
            for row in rows:
                yield np.asarray(array[row])

    @contextmanager
    def _open(self) -> Iterator[Any]:
        path = self.files[0]
        if self._loaded is not None:
            yield self._loaded
            return
        with reading(path):
            if path.suffix in _HDF5:
                with h5py.File(path, "r") as file:
                    yield dataset_in(file, path, self._field or "")
            elif path.suffix == ".npz":
                yield _npz_member(path, self._field)
            else:
                yield np.load(path, mmap_mode="r", allow_pickle=False)


def open_array(source: str | Path) -> StoredArray:
    """Open "file.npy", "file.npz" (one array), "file.npz:name" or "file.h5:/dataset".

    Pickled arrays are refused, and so are HDF5 datasets that point into other files.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no such array.
    """
    match = re.fullmatch(r"(.+\.(?:npz|h5|hdf5|hdf)):(.+)", str(source))
    path, field = (Path(match[1]), match[2]) if match else (Path(source), None)
    existing(path, "an array")
    if path.suffix not in (".npy", ".npz", *_HDF5):
        raise ValueError(f"{path}: ends in {path.suffix!r}, expected .npy, .npz or {_HDF5}")
    if path.suffix in _HDF5 and field is None:
        raise ValueError(f"{path}: which dataset? expected '{path.name}:/name'")
    return StoredArray(path, field)


def _npz_member(path: Path, field: str | None) -> NDArray[Any]:
    with np.load(path, allow_pickle=False) as file:
        if field is None and len(file.files) != 1:
            raise ValueError(f"{path}: which array of {file.files}? expected '{path.name}:name'")
        name = field or file.files[0]
        if name not in file.files:
            raise ValueError(f"{path}: no array {name}, there are {file.files}")
        values: NDArray[Any] = file[name]
        return values


def check_numbers(path: Path, dtype: np.dtype[Any]) -> None:
    """Refuse what cannot be betas.

    Raises:
        ValueError: if the type is neither whole nor floating-point numbers.
    """
    if dtype.kind not in "iuf":
        raise ValueError(f"{path}: betas are {dtype}, expected whole or floating-point numbers")


class ArrayBetas:
    """Betas in an array [n_trials, n_voxels], or [..., n_trials] with `last`.

    Args:
        array: The array.
        last: Trials are the last axis instead of the first.
        mask: bool, the other axes' shape: which voxels to take; None: all.
    """

    def __init__(
        self, array: StoredArray, *, last: bool = False, mask: NDArray[np.bool_] | None = None
    ) -> None:
        self.files = array.files
        self._array, self._last = array, last
        check_numbers(self.files[0], array.dtype)
        if len(array.shape) < 2 or (len(array.shape) > 2 and not last):
            raise ValueError(
                f"{self.files[0]}: betas have shape {array.shape}, expected (n_trials, n_voxels)"
            )
        grid = array.shape[:-1] if last else array.shape[1:]
        if mask is not None and mask.shape != grid:
            raise ValueError(f"{self.files[0]}: voxels have shape {grid}, the mask {mask.shape}")
        self._mask = np.ones(grid, bool) if mask is None else mask

    @property
    def shape(self) -> tuple[int, int]:
        """n_trials, n_voxels."""
        return self._array.shape[-1 if self._last else 0], int(self._mask.sum())

    def read(self, trials: NDArray[np.intp]) -> NDArray[np.float32]:
        """See `Betas.read`."""
        slab = slice(int(trials[0]), int(trials[-1]) + 1)
        if self._last:
            values = np.moveaxis(self._array[..., slab][self._mask], -1, 0)
        else:
            values = self._array[slab][:, self._mask]
        return np.array(values[trials - slab.start], np.float32, order="C")


def read_arrays(
    name: str,
    betas: str | Path,
    table: TrialTable,
    *,
    places: Places | None = None,
    ncsnr: NDArray[np.floating] | None = None,
    space: str = "unknown",
) -> TrialData:
    """One subject whose betas are an array [n_trials, n_voxels].

    Args:
        name: The subject's name.
        betas: See `open_array`.
        table: Its trials.
        places: Where the voxels lie, if that is known.
        ncsnr: [n_voxels] if known; see `TrialData`.
        space: What `places` refer to.

    Raises:
        FileNotFoundError, ValueError: naming the file, the field and what was expected.
    """
    values = ArrayBetas(open_array(betas))
    return TrialData(
        name, values, table, places or Places.unknown(values.shape[1]), ncsnr=ncsnr, space=space
    )
