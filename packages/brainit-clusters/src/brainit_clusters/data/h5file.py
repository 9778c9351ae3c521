"""HDF5 files of our own, open for reading."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainit_clusters._files import existing


class H5File:
    """An open file that is closed by `close` or at the end of a `with` block.

    Attributes:
        path: The file.
    """

    def __init__(self, file: h5py.File, path: Path) -> None:
        self._opened = file
        self._process = os.getpid()
        self.path = path

    @property
    def _file(self) -> h5py.File:
        _check_process(self._process, self.path)
        return self._opened

    def close(self) -> None:
        """Close the file."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_h5(path: Path, what: str) -> h5py.File:
    """Open a file for reading.

    Args:
        path: The file.
        what: What it should hold, for messages.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is no HDF5 file, or damaged.
    """
    try:
        return h5py.File(existing(path, what), "r")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{path}: not a readable HDF5 file ({error})") from error


class StoredRows:
    """A dataset whose rows stay in their file until they are asked for.

    Where it lies in the file in one piece, as we write it, rows come from a memory map: exact, many
    times faster than through HDF5, and open to all threads and to processes forked later, also
    when the file is closed. Elsewhere (chunks, compression) HDF5 reads them, one after the other.

    Attributes:
        shape: Of the dataset; rows are its first axis.
        dtype: Of its values.

    Raises:
        ValueError: if the file ends before the dataset does.
    """

    def __init__(self, values: h5py.Dataset) -> None:
        self.shape: tuple[int, ...] = values.shape
        self.dtype: np.dtype[Any] = values.dtype
        self._values, self._process = values, os.getpid()
        self._path = Path(values.file.filename)
        offset = values.id.get_offset()
        self._map: NDArray[Any] | None = None
        if offset is not None and not values.external and values.size:
            if self._path.stat().st_size < offset + values.nbytes:
                raise ValueError(f"{self._path}: cut short, {values.name} lies beyond its end")
            self._map = np.asarray(np.memmap(self._path, self.dtype, "r", offset, self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: ArrayLike | slice) -> NDArray[Any]:
        """A copy of the given rows, in their order."""
        wanted = np.arange(len(self))[rows if isinstance(rows, slice) else np.asarray(rows)]
        if self._map is not None:
            return self._map[wanted]
        _check_process(self._process, self._path)
        found: NDArray[Any] = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        # Row by row: h5py's index lists cost more with every entry.
        for place, row in enumerate(wanted):
            found[place] = self._values[row]
        return found


def _check_process(opened_by: int, path: Path) -> None:
    if os.getpid() != opened_by:
        raise RuntimeError(
            f"{path}: opened by another process ({opened_by}), whose place in the file it would "
            "share; open it in each process that reads it"
        )
