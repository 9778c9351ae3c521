"""Whole files or none: writing under a temporary name, and naming what was read."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_EDGE = 4096


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on error it goes.

    Args:
        path: Where the whole file shall be; missing parent folders are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        temporary.unlink()  # file systems may flush a file at once that was emptied to be written
        yield temporary
        temporary.chmod(mode)  # safetensors leaves its files to their owner alone
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(path: Path) -> str:
    """A cheap mark of a huge file: SHA-256 of its size and its first and last 4 KiB, in hex."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_EDGE)
        file.seek(max(0, size - _EDGE))
        tail = file.read(_EDGE)
    return hashlib.sha256(str(size).encode() + head + tail).hexdigest()


def existing(path: Path, what: str) -> Path:
    """Return `path`.

    Raises:
        FileNotFoundError: if there is no such file, naming what it should have held.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected {what}")
    return path
