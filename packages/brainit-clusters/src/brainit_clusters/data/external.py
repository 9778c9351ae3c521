"""External images with predicted responses: what the encoder adds to the measured data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainit_clusters._files import existing, replacing

SCHEMA_VERSION = 1
_KIND = "external responses"


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
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"images are {images.dtype} {images.shape}, expected uint8 [n, H, W, 3]")
    for name, values in responses.items():
        if values.ndim != 2 or len(values) != len(images) or not np.isfinite(values).all():
            raise ValueError(
                f"{name}: responses have shape {values.shape}, "
                f"expected ({len(images)}, n_voxels), all finite"
            )
    path = Path(path)
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["kind"] = _KIND
        file.attrs["schema_version"] = json.dumps(SCHEMA_VERSION)
        file["images"] = images
        group = file.create_group("responses")
        for name, values in responses.items():
            group[name] = values.astype(np.float16)
    return path


class ExternalResponses:
    """A file of `write_external`, open for reading; also a context manager.

    Attributes:
        path: The file.
        subjects: Names of the subjects, sorted.
    """

    def __init__(self, file: h5py.File, path: Path) -> None:
        self._file = file
        self.path = path
        self.subjects: list[str] = sorted(file["responses"])

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a file that `write_external` wrote.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is another kind of file.
        """
        path = existing(Path(path), "external images with predicted responses")
        try:
            file = h5py.File(path, "r")
        except OSError as error:
            raise ValueError(f"{path}: not a readable HDF5 file ({error})") from error
        if file.attrs.get("kind") != _KIND:
            file.close()
            raise ValueError(f"{path}: holds no {_KIND}")
        return cls(file, path)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return int(self._file["images"].shape[0])

    def images(self, rows: ArrayLike | None = None) -> NDArray[np.uint8]:
        """Images of the given rows in their order, or all: uint8 [n, H, W, 3]."""
        values: NDArray[np.uint8] = self._file["images"][:]
        return values if rows is None else values[np.asarray(rows)]

    def responses(self, subject: str, rows: ArrayLike | None = None) -> NDArray[np.float16]:
        """Predicted responses of a subject to the given rows, or all: float16 [n, n_voxels].

        Raises:
            ValueError: if there is no such subject.
        """
        if subject not in self.subjects:
            raise ValueError(
                f"{self.path}: no subject {subject!r}, expected one of {self.subjects}"
            )
        values: NDArray[np.float16] = self._file["responses"][subject][:]
        return values if rows is None else values[np.asarray(rows)]
