"""The format before torch 1.6: pickles one after the other, then the storages' bytes."""

from __future__ import annotations

import struct
import sys
from typing import Any, BinaryIO

import torch

from brainit_bit.importing.inert import Name, refuse
from brainit_bit.importing.pickles import MAX_PICKLE_BYTES, run_pickle
from brainit_bit.importing.tensors import Storage, storage_fields

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
# How every such file begins: protocol 2, the magic number, end of the first pickle.
FIRST_BYTES = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little") + b"."


def read_legacy(file: BinaryIO, size: int) -> object:
    """Read a file of `size` bytes.

    Raises:
        UnsafeCheckpoint: If the file is not of this format or a pickle is refused.
    """
    storages = _Storages(size)
    if _next_pickle(file) != MAGIC or _next_pickle(file) != PROTOCOL:
        refuse("an old checkpoint without torch's magic number")
    system = _next_pickle(file)
    little = system.get("little_endian") if isinstance(system, dict) else None
    if little is not (sys.byteorder == "little"):
        refuse(f"numbers in another byte order than this machine's, {sys.byteorder}-endian")
    value = _next_pickle(file, storages.named)
    keys = _next_pickle(file)
    if type(keys) is not list or any(type(key) is not str for key in keys):
        refuse("an old checkpoint without its list of storages")
    if sorted(keys) != sorted(storages.by_key):
        refuse("an old checkpoint whose list of storages is not that of its tensors")
    for key in keys:
        _fill(file, storages.by_key[key], key)
    if file.read(1):
        refuse("something behind the last storage")
    return value


def _next_pickle(file: BinaryIO, persistent: Any = None) -> Any:
    start = file.tell()
    value, length = run_pickle(file.read(MAX_PICKLE_BYTES), persistent or _no_identity)
    file.seek(start + length)
    return value


def _no_identity(_: object) -> Any:
    refuse("a persistent id where none belongs")


class _Storages:
    """Storages that tensors already view and whose numbers come later in the file."""

    def __init__(self, size: int) -> None:
        self.by_key: dict[str, Storage] = {}
        self._left = size

    def named(self, identity: object) -> Storage | Name:
        if type(identity) is tuple and len(identity) == 4:
            what, kind, *source = identity
            is_text = [one is None or type(one) is str for one in (what, *source)]
            if all(is_text) and what == "module" and isinstance(kind, Name):
                return kind  # a class with its source text, which is dropped
        key, dtype, numel = storage_fields(identity)
        if key not in self.by_key:
            self._left -= numel * dtype.itemsize
            if self._left < 0:
                refuse(f"storage {key}: larger than the file")
            self.by_key[key] = Storage(torch.zeros(numel, dtype=dtype))
        values = self.by_key[key].values
        if values.dtype != dtype or len(values) != numel:
            refuse(f"storage {key}: two types or sizes")
        return self.by_key[key]


def _fill(file: BinaryIO, storage: Storage, key: str) -> None:
    header = file.read(8)
    if len(header) != 8 or struct.unpack("<q", header)[0] != len(storage.values):
        refuse(f"storage {key}: not as large as its tensors say")
    if not len(storage.values):
        return
    content = storage.values.view(torch.uint8).numpy()
    if file.readinto(content) != len(content):  # type: ignore[attr-defined]
        refuse(f"storage {key}: the file ends inside it")
