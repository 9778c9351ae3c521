"""Opening NIfTI, GIFTI, CIFTI and array files so that a broken one gives one clear error."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError
from zipfile import BadZipFile

import nibabel as nib
from nibabel.cifti2.cifti2 import Cifti2HeaderError
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from brainit_clusters._files import existing

_BLOCK = 2**20
# What nibabel, h5py and numpy raise on damaged files, found by cutting them and changing bytes.
_BROKEN = (
    ImageFileError,
    Cifti2HeaderError,
    HeaderDataError,
    WrapStructError,
    ExpatError,
    zlib.error,
    BadZipFile,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file raises into a ValueError that names it."""
    try:
        yield
    except _BROKEN as error:
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: cannot be read whole ({reason})") from error


def load(path: Path, what: str, kind: type[Any]) -> Any:
    """Open a scan without reading its data.

    Args:
        path: The file.
        what: What it should hold, for messages.
        kind: nibabel's class that it must be of.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is no such file.
    """
    existing(path, what)
    with reading(path):
        _check_gzip(path)
        image = nib.load(path)
        if not isinstance(image, kind):
            raise ValueError(
                f"{path}: is a {type(image).__name__}, expected {what} ({kind.__name__})"
            )
        return image


def _check_gzip(path: Path) -> None:
    """Read a compressed file to its end: only there does its checksum tell of changed bytes."""
    if path.suffix == ".gz":
        with gzip.open(path) as file:
            while file.read(_BLOCK):
                pass
