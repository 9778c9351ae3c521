"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file that takes its place only once it is complete.

    Nobody reads half a file, and what was there stays if writing fails or is interrupted.

    Args:
        path: The file; its folder is made if needed.

    Yields:
        Where to write.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=target.parent) as scratch:
        part = Path(scratch, target.name)
        yield part
        os.replace(part, target)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write a text file whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return Path(path)


def check_place(path: Path) -> None:
    """Whether something can be written there; worth asking before long work begins.

    Raises:
        OSError: If not.
    """
    nearest = next(folder for folder in path.absolute().parents if folder.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".trying-", dir=nearest):
            pass
    except OSError as error:
        raise OSError(f"{path}: cannot be written in {nearest}: {error.strerror}") from None


def check_free(path: Path, overwrite: bool) -> None:
    """Whether a file may be written there; as `check_place`.

    Raises:
        FileExistsError: If it exists and may not be replaced, or is a folder.
        OSError: If nothing can be written there.
    """
    if path.is_dir():
        raise FileExistsError(f"{path}: is a folder; expected a file to write")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path}: exists already; choose another file or overwrite it")
    check_place(path)
