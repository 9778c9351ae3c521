"""safetensors files that carry a hash of all their bytes.

The format's own checks let a renamed tensor or a flipped bit pass. Here the header holds a SHA-256
of the whole file, counted with zeros in its own place. Tensors go to the disk one after the other,
so that writing takes no second copy of what is on a GPU.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

_DTYPES = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_BLANK = b"0" * 64
_HASH = re.compile(rb'"sha256":"([0-9a-f]{64})"')
_PIECE = 2**22


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and texts.

    Args:
        path: Written in place; readers of an older content are the caller's to think of.
        tensors: On any device.
        metadata: Texts by name.

    Raises:
        KeyError: A tensor of a type that the format does not have.
    """
    # The widest numbers come first, so that all are aligned.
    ordered = dict(sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])))
    header = _header(ordered, {"sha256": _BLANK.decode(), **metadata})
    digest = hashlib.sha256(header)
    with open(path, "wb") as file:
        file.write(header)
        for tensor in ordered.values():
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            data = flat.view(torch.uint8).numpy().data
            digest.update(data)
            file.write(data)
        file.seek(header.index(_BLANK))
        file.write(digest.hexdigest().encode())


def is_whole(path: Path) -> bool:
    """Whether a file holds, byte for byte, what `write` had put into it.

    Raises:
        FileNotFoundError: There is no such file.
    """
    with open(path, "rb") as file:
        header = _read_header(file)
        found = _HASH.search(header)
        if found is None:
            return False
        digest = hashlib.sha256(header[: found.start(1)] + _BLANK + header[found.end(1) :])
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest().encode() == found[1]


def _header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.dtype.itemsize
        entries[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _read_header(file: BinaryIO) -> bytes:
    length = file.read(8)
    limit = file.seek(0, 2) - 8  # a damaged length must not decide how much memory is taken
    file.seek(8)
    return length + file.read(min(int.from_bytes(length, "little"), max(limit, 0)))
