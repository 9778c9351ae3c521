"""External images with predicted responses: what the encoder adds to the measured data."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainit_clusters._files import replacing
from brainit_clusters.data.h5file import H5File, StoredRows, open_h5

SCHEMA_VERSION = 1
_KIND = "external responses"
_ROWS = "rows_written"


def write_external(
    path: str | Path,
    images: NDArray[np.uint8],
    responses: Mapping[str, NDArray[np.float16]],
) -> Path:
    """Write images and each subject's predicted responses to them.

    Args:
        path: The HDF5 file to write.
        images: uint8 [n, H, W, 3].
        responses: subject name -> float16 [n, n_voxels].

    Raises:
        ValueError: if a shape or type does not fit.
    """
    _check(images, responses)
    path = Path(path)
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        _create(file, images.shape, {name: v.shape[1] for name, v in responses.items()})
        _fill(file, slice(0, len(images)), images, responses)
    return path


class ExternalWriter:
    """Writes such a file a few images at a time; what an interrupted run left is taken up again.

    Rows go to a hidden file beside `path`, which takes its name when the last row is written. A
    context manager, as the file must be closed; an error inside leaves what is written for later.

    Args:
        path: The HDF5 file to write.
        image_shape: [n, H, W, 3].
        n_voxels: subject name -> number of voxels.
        mark: Stands for all that decides the numbers; rows under another mark are not gone on with.

    Attributes:
        n_written: Rows that are on disk already.

    Raises:
        ValueError: if what is there of an interrupted run has another mark.
    """

    def __init__(
        self,
        path: str | Path,
        image_shape: tuple[int, ...],
        n_voxels: Mapping[str, int],
        mark: str,
    ) -> None:
        self.path = Path(path)
        self._partial = self.path.with_name(f".{self.path.name}.partial")
        self._n_images = image_shape[0]
        if not self._partial.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._partial) as temporary, h5py.File(temporary, "w") as file:
                _create(file, image_shape, n_voxels)
                file.attrs["mark"] = mark
                file.create_dataset(_ROWS, (), np.int64, dcpl=_allocated())[()] = 0
        self._file = h5py.File(self._partial, "r+")
        if self._file.attrs["mark"] != mark:
            self._file.close()
            raise ValueError(
                f"{self._partial}: left by a run with other images, weights or precision; "
                "delete it to begin anew"
            )
        self.n_written = int(self._file[_ROWS][()])

    def write(
        self, images: NDArray[np.uint8], responses: Mapping[str, NDArray[np.float16]]
    ) -> None:
        """Add the next rows.

        Args:
            images: uint8 [m, H, W, 3].
            responses: subject name -> float16 [m, n_voxels].

        Raises:
            ValueError: if they do not fit, or a response is not finite.
        """
        rows = slice(self.n_written, self.n_written + len(images))
        _check(images, responses)
        _fill(self._file, rows, images, responses)
        self._file.flush()  # the rows first, then that they are there
        self._file[_ROWS][()] = rows.stop
        self._file.flush()
        self.n_written = rows.stop

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        is_whole = self.n_written == self._n_images
        if is_whole:
            del self._file[_ROWS], self._file.attrs["mark"]
        self._file.close()
        if is_whole:
            os.replace(self._partial, self.path)


def _check(images: NDArray[np.uint8], responses: Mapping[str, NDArray[np.float16]]) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"images are {images.dtype} {images.shape}, expected uint8 [n, H, W, 3]")
    for name, values in responses.items():
        if values.ndim != 2 or len(values) != len(images) or not np.isfinite(values).all():
            raise ValueError(
                f"{name}: responses have shape {values.shape}, "
                f"expected ({len(images)}, n_voxels), all finite"
            )


def _create(file: h5py.File, image_shape: tuple[int, ...], n_voxels: Mapping[str, int]) -> None:
    file.attrs["kind"] = _KIND
    file.attrs["schema_version"] = json.dumps(SCHEMA_VERSION)
    file.create_dataset("images", image_shape, np.uint8, dcpl=_allocated())
    for name, count in n_voxels.items():
        shape = (image_shape[0], count)
        file.create_dataset(f"responses/{name}", shape, np.float16, dcpl=_allocated())


def _allocated() -> h5py.h5p.PropDCID:
    """Space for all rows from the start: rows then change no structure that a crash could tear."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return properties


def _fill(
    file: h5py.File,
    rows: slice,
    images: NDArray[np.uint8],
    responses: Mapping[str, NDArray[np.float16]],
) -> None:
    file["images"][rows] = images
    for name, values in responses.items():
        file["responses"][name][rows] = values.astype(np.float16)


class ExternalResponses(H5File):
    """A file of `write_external`, open for reading; also a context manager.

    Attributes:
        path: The file.
        subjects: Names of the subjects, sorted.
        stored_images: uint8 [n, H, W, 3], read by rows.
        stored_responses: subject name -> float16 [n, n_voxels], read by rows.
    """

    def __init__(self, file: h5py.File, path: Path) -> None:
        super().__init__(file, path)
        responses = file["responses"]
        self.subjects: list[str] = sorted(responses)
        self.stored_images = StoredRows(file["images"])
        self.stored_responses = {name: StoredRows(responses[name]) for name in self.subjects}

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a file that `write_external` wrote.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is another kind of file, or of another schema version.
        """
        path = Path(path)
        file = open_h5(path, "external images with predicted responses")
        kind, version = (file.attrs.get(name) for name in ("kind", "schema_version"))
        if kind != _KIND or version != json.dumps(SCHEMA_VERSION):
            file.close()
            if kind != _KIND:
                raise ValueError(f"{path}: holds no {_KIND}")
            raise ValueError(f"{path}: schema_version is {version}, expected {SCHEMA_VERSION}")
        return cls(file, path)

    def __len__(self) -> int:
        return len(self.stored_images)

    def images(self, rows: ArrayLike | None = None) -> NDArray[np.uint8]:
        """Images of the given rows in their order, or all: uint8 [n, H, W, 3]."""
        return self.stored_images[slice(None) if rows is None else rows]

    def responses(self, subject: str, rows: ArrayLike | None = None) -> NDArray[np.float16]:
        """Predicted responses of a subject to the given rows, or all: float16 [n, n_voxels].

        Raises:
            ValueError: if there is no such subject.
        """
        if subject not in self.subjects:
            raise ValueError(
                f"{self.path}: no subject {subject!r}, expected one of {self.subjects}"
            )
        return self.stored_responses[subject][slice(None) if rows is None else rows]
