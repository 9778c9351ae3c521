"""Checking a file's bytes against the ETag that S3 gives it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal

Check = Literal["md5", "parts", "size"]

_MIB = 2**20
_READ = 4 * _MIB
_MOST_GUESSES = 8


def check(path: Path, etag: str, part_size: Callable[[], int | None]) -> Check | None:
    """Compare a file with an ETag.

    An ETag of N parts does not say how large they are. The sizes in whole MiB that give N parts
    are tried, powers of two first, and then the size that the bucket names.

    Args:
        path: The file.
        etag: Without quotes.
        part_size: Asks the bucket for the size of a part; None: it does not say.

    Returns:
        "md5" or "parts" (by parts) if the bytes are right, "size" if nobody can tell because the
        size of the parts is unknown, None if they are wrong.
    """
    parts = re.fullmatch(r"[0-9a-f]{32}-([0-9]{1,5})", etag)
    if parts is None:
        with path.open("rb") as file:
            return "md5" if hashlib.file_digest(file, _new).hexdigest() == etag else None
    guesses = _part_sizes(path.stat().st_size, int(parts[1]))
    if any(etag_of_parts(path, size) == etag for size in guesses):
        return "parts"
    named = part_size()
    if named is None:
        return "size"
    return "parts" if named not in guesses and etag_of_parts(path, named) == etag else None


def etag_of_parts(path: Path, part_size: int) -> str:
    """The ETag that S3 gives a file uploaded in parts of `part_size` bytes."""
    digests = []
    with path.open("rb") as file:
        while digest := _md5(file, part_size):
            digests.append(digest)
    return f"{_new(b''.join(digests)).hexdigest()}-{len(digests)}"


def _md5(file: BinaryIO, length: int) -> bytes:
    """MD5 of the next `length` bytes; nothing at the end of the file."""
    digest, left = _new(), length
    while left and (chunk := file.read(min(left, _READ))):
        digest.update(chunk)
        left -= len(chunk)
    return digest.digest() if left < length else b""


def _part_sizes(size: int, n_parts: int) -> list[int]:
    """Whole MiB, in bytes, that cut `size` bytes into `n_parts`; the likeliest first."""
    lowest = max(1, -(-size // (n_parts * _MIB)))
    highest = (size - 1) // ((n_parts - 1) * _MIB) if n_parts > 1 else lowest
    fitting = [m for m in range(lowest, highest + 1) if -(-size // (m * _MIB)) in (n_parts, 0)]
    usual = sorted(fitting, key=lambda m: (m & (m - 1) != 0, m % 5 != 0, m))
    return [m * _MIB for m in usual[:_MOST_GUESSES]]


# Not for secrecy: machines that follow FIPS 140 refuse MD5 otherwise.
_new = partial(hashlib.md5, usedforsecurity=False)
