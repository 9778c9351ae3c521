"""A checkpoint of `torch.save` as tensors, plain containers and inert records."""

from __future__ import annotations

from pathlib import Path

from brainit_bit.importing.archive import read_archive
from brainit_bit.importing.extent import check_extent
from brainit_bit.importing.inert import UnsafeCheckpoint, refuse
from brainit_bit.importing.legacy import FIRST_BYTES, read_legacy


def read_checkpoint(path: str | Path) -> object:
    """Read a file that `torch.save` wrote without running anything in it.

    Both of torch's formats: the zip file, and the one before torch 1.6. Memory stays near the
    file's size, as nothing may be compressed and every tensor is a view of a storage in the file.

    Args:
        path: The file.

    Returns:
        None, bool, int, float, str, bytes, tuple, list, dict, set, CPU tensors, and a `Name` or
        `Record` for everything else.

    Raises:
        FileNotFoundError: If there is no such regular file.
        UnsafeCheckpoint: If the file is damaged or holds more than data.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        return _read(path)
    except UnsafeCheckpoint as error:
        raise UnsafeCheckpoint(f"{path}: refused: {error}") from None


def _read(path: Path) -> object:
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(len(FIRST_BYTES))
        file.seek(0)
        if first.startswith(b"PK\3\4"):
            value = read_archive(file, size)
        elif first == FIRST_BYTES:
            value = read_legacy(file, size)
        else:
            refuse("neither of torch's two formats")
    check_extent(value)
    return value
