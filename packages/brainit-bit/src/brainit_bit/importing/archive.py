"""Zip files that `torch.save` writes: a pickle and an entry a storage, all stored as they are."""

from __future__ import annotations

import struct
import sys
import zipfile
from typing import BinaryIO

import torch
from torch import Tensor

from brainit_bit.importing.inert import refuse
from brainit_bit.importing.pickles import MAX_PICKLE_BYTES, run_pickle
from brainit_bit.importing.tensors import Storage, storage_fields

MAX_ENTRIES = 10_000
MAX_DIRECTORY_BYTES = 2 * 2**20
CHUNK = 2**20
# What zipfile raises on files that are not whole.
_BROKEN = (
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    UnicodeDecodeError,
    struct.error,
)
SMALL_ENTRIES = {"version", "byteorder", ".format_version", ".storage_alignment"} | {
    ".data/serialization_id"
}


def read_archive(file: BinaryIO, size: int) -> object:
    """Read a zip file of `size` bytes.

    Refused are compressed and encrypted entries, so that nothing is larger in memory than in the
    file, and entries that are double, overlap or have other names than torch's.

    Raises:
        UnsafeCheckpoint: If the file is no such archive or its pickle is refused.
    """
    start = _directory_start(file, size)
    try:
        with zipfile.ZipFile(file) as opened:
            return _Archive(opened, start).load()
    except _BROKEN as error:
        refuse(f"a broken zip file: {ascii(str(error))[1:81]}")


def _directory_start(file: BinaryIO, size: int) -> int:
    """Where the zip directory begins; it must end at the file's end and be small."""
    length = min(size, 98)
    file.seek(size - length)
    tail = file.read(length)
    file.seek(0)
    if length < 22 or tail[-22:-18] != b"PK\5\6" or tail[-2:] != b"\0\0":
        refuse("a zip file that does not end with its directory")
    count, directory, start = struct.unpack("<HII", tail[-12:-2])
    end = size - 22
    if length == 98 and tail[-42:-38] == b"PK\6\7" and tail[:4] == b"PK\6\6":
        count, directory, start = struct.unpack("<QQQ", tail[32:56])
        end = size - 98
    if count > MAX_ENTRIES or directory > MAX_DIRECTORY_BYTES:
        refuse(f"a zip file of more than {MAX_ENTRIES} entries")
    if start + directory != end:
        refuse("a zip file with something around its entries")
    return int(start)


class _Archive:
    def __init__(self, opened: zipfile.ZipFile, directory: int) -> None:
        self._file = opened
        self._entries = _checked_entries(opened.infolist(), directory)
        self._storages: dict[str, Storage] = {}

    def load(self) -> object:
        if "data.pkl" not in self._entries:
            refuse("a zip file without data.pkl")
        order = self._entries.get("byteorder")
        if order is not None and self._read(order) != sys.byteorder.encode():
            refuse(f"numbers in another byte order than this machine's, {sys.byteorder}-endian")
        pickle = bytes(self._read(self._entries["data.pkl"]))
        value, end = run_pickle(pickle, self._storage)
        if end != len(pickle):
            refuse("something behind the end of the pickle")
        return value

    def _storage(self, identity: object) -> Storage:
        key, dtype, numel = storage_fields(identity)
        if key not in self._storages:
            entry = self._entries.get(f"data/{key}")
            if entry is None or entry.file_size != numel * dtype.itemsize:
                have = "no entry" if entry is None else f"{entry.file_size} bytes"
                refuse(f"storage {key}: {numel} elements of {dtype} in {have}")
            self._storages[key] = Storage(_from_bytes(self._read(entry), dtype))
        storage = self._storages[key]
        if storage.values.dtype != dtype or len(storage.values) != numel:
            refuse(f"storage {key}: two types or sizes")
        return storage

    def _read(self, entry: zipfile.ZipInfo) -> bytearray:
        """One entry; zipfile checks its length and, at its end, its CRC."""
        content, done = bytearray(entry.file_size), 0
        with self._file.open(entry) as source:
            while chunk := source.read(CHUNK):
                content[done : done + len(chunk)] = chunk
                done += len(chunk)
        return content


def _checked_entries(entries: list[zipfile.ZipInfo], directory: int) -> dict[str, zipfile.ZipInfo]:
    """Entries by their name behind the one root folder."""
    if len(entries) > MAX_ENTRIES:
        refuse(f"a zip file of more than {MAX_ENTRIES} entries")
    found: dict[str, zipfile.ZipInfo] = {}
    end, roots = 0, set()
    for entry in sorted(entries, key=lambda one: one.header_offset):
        root, _, name = entry.orig_filename.partition("/")
        roots.add(root)
        if root in ("", ".", "..") or len(roots) > 1 or not _is_known(name) or name in found:
            refuse(f"a zip entry that is double or not torch's: {ascii(entry.orig_filename)[:80]}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            refuse(f"a compressed zip entry: {name}")
        if entry.flag_bits & ~0x808:  # a UTF-8 name, sizes behind the data
            refuse(f"a zip entry that is encrypted or patched: {name}")
        if entry.header_offset < end:
            refuse(f"zip entries that overlap: {name}")
        end = entry.header_offset + 30 + len(entry.orig_filename) + entry.file_size
        if name in SMALL_ENTRIES and entry.file_size > 100:
            refuse(f"a zip entry of more than 100 bytes: {name}")
        found[name] = entry
    if end > directory:
        refuse("zip entries that reach into the directory")
    if "data.pkl" in found and found["data.pkl"].file_size > MAX_PICKLE_BYTES:
        refuse(f"a pickle of more than {MAX_PICKLE_BYTES} bytes")
    return found


def _is_known(name: str) -> bool:
    key = name.removeprefix("data/")
    is_storage = key != name and key.isascii() and key.isdigit()
    return name == "data.pkl" or name in SMALL_ENTRIES or is_storage


def _from_bytes(content: bytearray, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
