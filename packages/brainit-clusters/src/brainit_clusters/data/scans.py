"""Opening NIfTI, GIFTI, CIFTI and array files so that a broken one gives one clear error."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any
from xml.parsers.expat import ExpatError
from zipfile import BadZipFile

import nibabel as nib
import numpy as np
from nibabel.cifti2.cifti2 import Cifti2HeaderError
from nibabel.filebasedimages import ImageFileError
from nibabel.freesurfer.mghformat import MGHError
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from scipy.io.matlab import MatReadError

from brainit_clusters._files import existing

_BLOCK = 2**20
_EXTERNAL = b"ExternalFileBinary"
_SLACK = 2**24
"""Bytes of a header with its extensions, and of a footer."""
_DEFLATE_LIMIT = 1032
"""No stream of deflate, the compression of gzip, unpacks to more times its size."""
# What nibabel, h5py, scipy and numpy raise on damaged files, found by cutting and changing them.
_BROKEN = (
    ImageFileError,
    MGHError,
    MatReadError,
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
    SyntaxError,
    TokenError,
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
        # A GIFTI file may name another one for its data, which nibabel would read.
        if kind is nib.GiftiImage:
            with ImageOpener(str(path)) as file:
                if _EXTERNAL in file.read():
                    raise ValueError(f"{path}: data lie in another file, expected them within")
        with np.errstate(over="ignore"):  # of sizes that a damaged header claims
            image = nib.load(path)
        if not isinstance(image, kind):
            raise ValueError(
                f"{path}: is a {type(image).__name__}, expected {what} ({kind.__name__})"
            )
        _check_size(path, image)
        return image


def _check_size(path: Path, image: Any) -> None:
    """Refuse a header that claims more than the file holds, before memory is taken for it.

    A compressed file is read to its end: only there does its checksum tell of changed bytes.
    """
    if not hasattr(image, "get_data_dtype"):  # GIFTI is text that says no size
        return
    shape = tuple(map(int, image.shape))
    claimed = image.dataobj.offset + math.prod(shape) * image.get_data_dtype().itemsize
    size = path.stat().st_size
    packed = path.suffix in (".gz", ".mgz")
    if min(shape, default=0) < 0 or claimed > size * (_DEFLATE_LIMIT if packed else 1):
        raise ValueError(f"shape {shape} is more than its {size} bytes can hold")
    if packed:
        _read_through(path, claimed + _SLACK)


def _read_through(path: Path, limit: int) -> None:
    with gzip.open(path) as file:
        while block := file.read(_BLOCK):
            limit -= len(block)
            if limit < 0:
                raise ValueError("it unpacks to more than its header says")
