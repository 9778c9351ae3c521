"""Betas in NSD's HDF5 files: int16, 300 times the percent signal change, trials first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from brainit_clusters.data.hdf5 import open_dataset
from brainit_clusters.data.nsd.space import SCALE

_FIELD = "betas"
_READ_BYTES = 2**24


def check_hdf5(path: Path, shape: tuple[int, ...]) -> None:
    """Check that `/betas` is int16 of a shape.

    Raises:
        FileNotFoundError, ValueError: naming the file.
    """
    with open_dataset(path, _FIELD, "betas") as betas:
        _check(path, betas, shape)


def read_hdf5(
    path: Path, shape: tuple[int, ...], chosen: NDArray[np.intp], values: NDArray[np.float32]
) -> None:
    """Read chosen places of `/betas` into float32 [n_trials, n_chosen].

    Where a chunk holds all trials of few places, as in NSD's files, the chunks of the chosen
    places alone are read, in the order of the file; otherwise trial after trial.

    Args:
        path: The file.
        shape: Its expected shape, trials first.
        chosen: Numbers of places in the other axes, last axis fastest; ascending.
        values: Filled with percent signal change.

    Raises:
        FileNotFoundError, ValueError: naming the file.
    """
    with open_dataset(path, _FIELD, "betas") as betas:
        _check(path, betas, shape)
        if betas.chunks and betas.chunks[0] == shape[0]:
            for line, run, columns in _runs(chosen, shape[1:]):
                values[:, columns] = betas[(slice(None), *line, run)]
        else:
            step = max(1, _READ_BYTES // (2 * int(np.prod(shape[1:]))))
            for trial in range(0, shape[0], step):
                slab = betas[trial : trial + step]
                values[trial : trial + step] = slab.reshape(len(slab), -1)[:, chosen]
    values /= SCALE


def _check(path: Path, betas: h5py.Dataset, shape: tuple[int, ...]) -> None:
    if betas.shape != shape:
        raise ValueError(f"{path}: {_FIELD} has shape {betas.shape}, expected {shape}")
    if betas.dtype.kind != "i" or betas.dtype.itemsize != 2:
        raise ValueError(f"{path}: {_FIELD} are {betas.dtype}, expected int16")


def _runs(
    chosen: NDArray[np.intp], shape: tuple[int, ...]
) -> Iterator[tuple[tuple[Any, ...], slice, slice]]:
    """Chosen places that follow each other along the last axis: line, range in it, columns."""
    line, place = np.divmod(chosen, shape[-1])
    starts = np.flatnonzero(np.append(True, (np.diff(line) != 0) | (np.diff(place) != 1)))
    for start, stop in zip(starts, [*starts[1:], len(chosen)], strict=True):
        where = np.unravel_index(line[start], shape[:-1]) if len(shape) > 1 else ()
        run = slice(int(place[start]), int(place[stop - 1]) + 1)
        yield tuple(map(int, where)), run, slice(int(start), int(stop))
