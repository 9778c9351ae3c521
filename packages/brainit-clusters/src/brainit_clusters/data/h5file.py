"""HDF5 files of our own, open for reading."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import h5py

from brainit_clusters._files import existing


class H5File:
    """An open file that is closed by `close` or at the end of a `with` block.

    Attributes:
        path: The file.
    """

    def __init__(self, file: h5py.File, path: Path) -> None:
        self._file = file
        self.path = path

    def close(self) -> None:
        """Close the file."""
        self._file.close()

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
