"""Fetching files: a `.part` that grows, a check of its bytes, and only then the final name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from tqdm import tqdm

from brainit_clusters._files import replacing
from brainit_clusters.nsd_download.bucket import Bucket, TransferError
from brainit_clusters.nsd_download.etag import Check, check
from brainit_clusters.nsd_download.listing import RemoteFile

_CHECKS = ("md5", "parts", "size")
State = Literal["absent", "part", "unchecked", "differs", "md5", "parts", "size"]
_WANTING = ("absent", "part")
_TRIES = 2
_POLL = 0.2  # seconds


@dataclass(frozen=True)
class Target:
    """A file to have: a whole one of the bucket, or `head` and the bytes [start, stop) of one.

    Attributes:
        source: The file in the bucket.
        path: Where to write it.
        start: First byte.
        stop: One past the last byte.
        head: Bytes to write before them.
    """

    source: RemoteFile
    path: Path
    start: int
    stop: int
    head: bytes = b""

    @classmethod
    def whole(cls, source: RemoteFile, root: Path) -> Target:
        """All of a file, at its place below `root`."""
        return cls(source, root / source.key, 0, source.size)

    @property
    def size(self) -> int:
        """Of the file to write, in bytes."""
        return len(self.head) + self.stop - self.start

    @property
    def is_whole(self) -> bool:
        """Whether the ETag speaks of the file to write."""
        return not self.head and (self.start, self.stop) == (0, self.source.size)

    @property
    def part(self) -> Path:
        """What was fetched so far."""
        return self._aside / f"{self.path.name}.part"

    @property
    def note(self) -> Path:
        """What the part, later the file, is: JSON."""
        return self._aside / f"{self.path.name}.json"

    @property
    def _aside(self) -> Path:
        """On the same disk, and out of sight of whoever lists the folder."""
        return self.path.parent / ".download"

    @property
    def facts(self) -> dict[str, object]:
        """What a note must say so that the bytes on disk are those wanted now."""
        source = self.source
        return {
            "key": source.key,
            "etag": source.etag,
            "size": source.size,
            "range": [self.start, self.stop],
        }


def found(target: Target) -> tuple[State, int]:
    """What is on disk, and how many bytes of it are of use.

    Returns:
        "absent"; "part"; "unchecked": of the right size, but not checked since it was written;
        "differs": of another size, or nothing that can be checked; or how it was checked:
        "md5", "parts" or "size" (the size alone).
    """
    note = _read_note(target)
    if not target.path.exists():
        partly = note is not None and target.part.is_file()
        have = min(target.part.stat().st_size, target.size) if partly else 0
        return ("part", have) if have > len(target.head) else ("absent", 0)
    status = target.path.stat()
    if status.st_size != target.size or not target.path.is_file():
        return "differs", 0
    if note and note.get("check") in _CHECKS and note.get("mtime_ns") == status.st_mtime_ns:
        return note["check"], target.size
    return ("unchecked", target.size) if target.is_whole else ("differs", 0)


def fetch_all(
    targets: Sequence[Target], bucket: Bucket, connections: int = 4, progress: bool = True
) -> dict[Path, Check]:
    """Fetch what is missing, check what is there, several files at a time.

    Whatever ends it early, the next call goes on from there. Processes that fetch into the same
    folder take turns file by file.

    Args:
        targets: What to have.
        bucket: Where from.
        connections: Files at a time.
        progress: Show a progress bar where somebody watches.

    Returns:
        How each file was checked.

    Raises:
        OSError: if the disk is too small or cannot be written; if files could not be fetched
            (all others were).
        KeyboardInterrupt: and `bucket.stop` is set.
    """
    _check_space(targets)
    checks: dict[Path, Check] = {}
    failures = []
    lock = Lock()
    bar = tqdm(
        total=sum(target.size for target in targets),
        initial=sum(found(target)[1] for target in targets),
        unit="B",
        unit_scale=True,
        disable=None if progress else True,
    )

    def advance(n_bytes: int) -> None:
        with lock:
            bar.update(n_bytes)

    with bar, ThreadPoolExecutor(connections) as pool:
        try:
            jobs = {pool.submit(fetch, target, bucket, advance): target for target in targets}
            for job in as_completed(jobs):
                try:
                    checks[jobs[job].path] = job.result()
                except (TransferError, ValueError) as error:
                    failures.append(error)
        except BaseException:
            bucket.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    if failures:
        what = f"{len(failures)} of {len(targets)} files could not be had"
        raise OSError(f"{what}; the first: {failures[0]}; the same command goes on from here")
    return checks


def fetch(target: Target, bucket: Bucket, advance: Callable[[int], None]) -> Check:
    """Have one file: fetch what is missing of it, check it, give it its name.

    Args:
        target: What to have.
        bucket: Where from.
        advance: Told of every byte gained, or, below zero, lost.

    Returns:
        How it was checked.

    Raises:
        TransferError: if it could not be fetched; what came is kept.
        ValueError: if its bytes are wrong, or the file that is there is another one.
        OSError: if it cannot be written.
        InterruptedError: if `bucket.stop` is set.
    """
    if (state := found(target)[0]) not in _WANTING:
        return _check_there(target, state, bucket)
    target.part.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.part, bucket) as part:
        if (state := found(target)[0]) not in _WANTING:  # another process was faster
            target.part.unlink()
            return _check_there(target, state, bucket)
        if state == "absent":
            _start_over(target, part, advance)
        for _ in range(_TRIES):
            begin = target.start + part.seek(0, os.SEEK_END) - len(target.head)
            for chunk in bucket.stream(target.source, begin, target.stop):
                _write(part, chunk, target)
                advance(len(chunk))
            if kind := _check(target, target.part, bucket):
                os.fsync(part.fileno())
                _write_note(target, kind, os.fstat(part.fileno()).st_mtime_ns)
                os.replace(target.part, target.path)
                return kind
            advance(-target.size)
            _start_over(target, part, advance)
        target.part.unlink()
    raise ValueError(f"{target.source.key}: the bytes that came are not those of its ETag")


def _check_there(target: Target, state: State, bucket: Bucket) -> Check:
    if state == "md5" or state == "parts" or state == "size":
        return state
    if state == "unchecked" and (kind := _check(target, target.path, bucket)):
        _write_note(target, kind, target.path.stat().st_mtime_ns)
        return kind
    source = target.source
    raise ValueError(
        f"{target.path}: is not what the bucket has now ({target.size} bytes, ETag {source.etag} "
        f"of {source.key}); remove it to fetch that"
    )


def _check(target: Target, path: Path, bucket: Bucket) -> Check | None:
    if not target.is_whole:
        return "size"
    return check(path, target.source.etag, lambda: bucket.part_size(target.source))


def _start_over(target: Target, part: FileIO, advance: Callable[[int], None]) -> None:
    part.truncate(0)
    part.seek(0)
    _write_note(target, None, None)
    _write(part, target.head, target)
    advance(len(target.head))


def _write(part: FileIO, data: bytes, target: Target) -> None:
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[part.write(rest) :]
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target.part)) from error


def _read_note(target: Target) -> dict[str, Any] | None:
    """The note, if there is one and it speaks of these very bytes."""
    try:
        note = json.loads(target.note.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    fits = isinstance(note, dict) and all(note.get(k) == v for k, v in target.facts.items())
    return note if fits else None


def _write_note(target: Target, kind: Check | None, mtime_ns: int | None) -> None:
    with replacing(target.note) as temporary:
        note = target.facts | {"check": kind, "mtime_ns": mtime_ns}
        temporary.write_text(json.dumps(note), "utf-8")


@contextmanager
def _locked(path: Path, bucket: Bucket) -> Iterator[FileIO]:
    """Open `path`, made if need be, as the only one who does."""
    while not bucket.stop.is_set():
        with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0) as file:
            if _lock(file, path):
                yield file
                return
        bucket.stop.wait(_POLL)
    raise InterruptedError("stopped")


def _lock(file: FileIO, path: Path) -> bool:
    """Whether we have the lock, and the file still has this name: its last holder may move it."""
    import fcntl  # not on Windows, where everything but this works

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _check_space(targets: Sequence[Target]) -> None:
    needed: dict[int, int] = {}
    folders: dict[int, Path] = {}
    for target in targets:
        state, have = found(target)
        if state in _WANTING:
            folder = next(parent for parent in target.path.absolute().parents if parent.is_dir())
            device = folder.stat().st_dev
            folders.setdefault(device, folder)
            needed[device] = needed.get(device, 0) + target.size - have
    for device, folder in folders.items():
        if needed[device] > (free := shutil.disk_usage(folder).free):
            need, there = (tqdm.format_sizeof(n, "B") for n in (needed[device], free))
            raise OSError(f"{folder}: the files need {need}, the disk has {there} free")
