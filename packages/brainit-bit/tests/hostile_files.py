"""Files that lie about themselves, bombs and tensors outside their storage: samples by class."""

from __future__ import annotations

import io
import struct
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from typing import Any

from hostile_bytes import (
    archive,
    call,
    legacy,
    name,
    number,
    numbers,
    program,
    storage,
    tensor,
    text,
    zipped,
)

SHELL = text("touch /tmp/owned")


def several_pickles() -> Iterator[bytes]:
    benign, evil = program(b"}"), program(call("os", "system", SHELL))
    yield archive(benign + evil)
    yield archive(benign + b"garbage")
    yield archive(evil + benign)
    yield archive(b"garbage" + evil)
    yield archive(evil[:-1])
    yield archive(benign[:-1])
    yield archive(evil[:-1] + b"\xff\xff.")
    yield archive(b"")


def the_old_format() -> Iterator[bytes]:
    evil = program(call("os", "system", SHELL))
    for i in range(5):
        yield legacy(*[b""] * i, evil)
    yield legacy(program(call("builtins", "eval", text("0x1950a86a20f9469cfc6c"))), rest=evil)
    yield legacy(rest=evil)
    yield legacy(rest=b"\0")
    yield legacy(b"", program(b"M\xe8\x03"))
    yield legacy(b"", b"", program(b"}"))
    yield legacy(b"", b"", program(b"}" + text("little_endian") + b"\x89s"))
    yield legacy(b"", b"", program(storage("0", 2) + b"Q"))
    yield legacy(b"", b"", b"", b"", program(b"}"))
    tensor, keys = program(storage("0", 4) + b"Q"), program(b"]" + text("0") + b"a")
    yield legacy(b"", b"", b"", tensor, keys, rest=struct.pack("<qq", 4, 0))
    for elements, written in ((2**40, 2**40), (2, 3), (3, 2), (2, -1), (-2, -2)):
        tensor = program(storage("0", elements) + b"Q")
        keys = program(b"]" + text("0") + b"a")
        yield legacy(b"", b"", b"", tensor, keys, rest=struct.pack("<qq", written, 0))
    yield legacy(b"", b"", b"", program(storage("0", 2) + b"Q"))
    yield legacy(b"", b"", b"", program(b"(" + text("module") + text("m") + b"NNtQ"))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for part in ("sys_info", "pickle", "storages", "tensors"):
            member = tarfile.TarInfo(part)
            member.size = len(evil)
            file.addfile(member, io.BytesIO(evil))
    yield buffer.getvalue()


def entry_patch(offset_in_directory: int, layout: str, value: int, local: int | None = None) -> Any:
    """Overwrite a field of the first entry, in the directory and perhaps in the local header."""

    def patch(raw: bytearray) -> None:
        struct.pack_into(layout, raw, raw.index(b"PK\1\2") + offset_in_directory, value)
        if local is not None:
            struct.pack_into(layout, raw, local, value)

    return patch


def containers() -> Iterator[bytes]:
    benign, evil = program(b"}"), program(call("os", "system", SHELL))
    yield evil  # a bare pickle whatever its suffix
    for flag in (0x1, 0x20, 0x40, 0x2000):
        yield archive(benign, entry_patch(8, "<H", flag, 6))
        yield archive(benign, entry_patch(8, "<H", flag))
    yield archive(benign, lambda raw: raw.__setitem__(slice(30, 40), b"m/evil.pkl"))
    yield archive(benign, entry_patch(16, "<I", 12345))  # CRC
    yield archive(benign, entry_patch(24, "<I", 1))  # size
    yield archive(benign, entry_patch(24, "<I", 2**31))
    yield archive(benign, entry_patch(20, "<I", 2**31))
    yield archive(benign, entry_patch(42, "<I", 30))  # where the entry lies
    yield archive(benign, entry_patch(42, "<I", archive(benign).index(b"PK\1\2")))
    yield archive(benign, entry_patch(10, "<H", 99))  # method
    yield b"7z\xbc\xaf\x27\x1c" + bytes(100)
    yield evil + archive(benign)
    yield b"PK\3\4" + archive(benign)
    yield archive(benign, lambda raw: raw.__setitem__(slice(-12, -10), b"\xff\xff"))
    yield archive(benign) + evil
    yield archive(benign)[:-2] + struct.pack("<H", len(evil)) + evil
    yield archive(archive(benign))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("m/data.pkl", benign * 100)
    yield buffer.getvalue()
    for size in (0, 101):
        with zipfile.ZipFile(buffer := io.BytesIO(), "w") as file:
            if size:
                file.writestr("m/data.pkl", benign)
            file.writestr("m/version", bytes(size))
        yield buffer.getvalue()
    for other in (
        "../data.pkl",
        "/data.pkl",
        "m/../data.pkl",
        "m/code/x.py",
        "n/version",
        "m/data/x",
    ):
        with zipfile.ZipFile(buffer := io.BytesIO(), "w") as file:
            file.writestr("m/data.pkl", benign)
            file.writestr(other, benign)
        yield buffer.getvalue()


def other_types() -> Iterator[bytes]:
    yield b""
    yield b"\n"
    yield b"x\x9c" + bytes(50)  # joblib's zlib
    yield b"\x89HDF\r\n\x1a\n" + bytes(500)
    yield struct.pack("<Q", 2) + b"{}"  # safetensors
    yield b"PK\3\4"
    yield b"PK\5\6" + bytes(18)
    yield b"\x1f\x8b" + bytes(50)


def bombs() -> Iterator[bytes]:
    yield zipped(b"]" + b"2" * 50 + b"0" * 50)
    # Sixty containers, each holding the one before twice: a walk of 2^60 steps.
    for layout in (b"(%s%st", b"](%s%se", b"}(X\1\0\0\0a%sX\1\0\0\0b%su", b"cm\nN\n)\x81%s%s\x86b"):
        body = b"]q\0"
        for level in range(60):
            get = b"h" + bytes([level])
            body += layout % (get, get) + b"q" + bytes([level + 1])
        yield zipped(b"(" + body + b"t")
    yield zipped(b"]" * 150 + b"a" * 149)
    deep = b"]" * 60 + b"a" * 59
    yield zipped(b"(" + deep + b"q\0" + b"]" * 60 + b"h\0" + b"a" * 60 + b"t")
    yield zipped(b")" + b"\x85" * 150)
    yield zipped(b"]" * 99_000 + b"a" * 98_999)
    yield zipped(b")" + b"\x85" * 199_000)
    yield zipped(b"(" * 150_000)
    yield zipped(b"N0" * 1_000_000 + b"N")
    yield zipped(b"]" + b"]a" * 1_000_000)
    yield zipped(b"]q\0h\0a")  # a list in itself
    yield zipped(b"}q\0" + text("k") + b"h\0s")
    yield zipped(b"}q\0h\0Ns")  # a dict as its own key
    yield zipped(b"\x8b" + struct.pack("<I", 2**31 - 1) + b"\xff" * 99)
    yield zipped(b"\x8b" + struct.pack("<I", 2**22) + b"\x7f" * 2**22)
    yield zipped(b"\x8d" + struct.pack("<Q", 2**62) + b"a", 4)
    yield zipped(b"L" + b"9" * 100_000 + b"L\n")
    yield zipped(b"X\xff\xff\xff\xff")
    collide = b"".join(number(i * (2**61 - 1)) + b"N" for i in range(50_000))
    yield zipped(b"}(" + collide + b"u")
    yield zipped(b"}(" + b"".join(number(-i * 2**40) + b"N" for i in range(1, 50_000)) + b"u")
    yield zipped(b"B" + struct.pack("<I", 9 * 2**20) + bytes(9 * 2**20), 3)


def zip_bombs() -> Iterator[bytes]:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as file:
        file.writestr("m/data.pkl", program(storage("0", 2**23) + b"Q"))
        file.writestr("m/data/0", bytes(2**25), zipfile.ZIP_DEFLATED)
    yield buffer.getvalue()
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", *[0] * 9, 1, *[0] * 6) + b"m"
    for count in (20_000, 100_000, 1_000_000):
        directory = entry * count
        ends = struct.pack("<4s4HIIH", b"PK\5\6", 0, 0, 9, 9, len(directory), 4, 0)
        yield b"PK\3\4" + directory + ends
    for same in ("m/data/0", "m/data.pkl", "m/version"):
        other = same[:-1] + "~"
        with zipfile.ZipFile(buffer := io.BytesIO(), "w") as file:
            for part in ("m/data.pkl", "m/data/0", "m/version", other):
                file.writestr(part, program(b"}"))
        yield buffer.getvalue().replace(other.encode(), same.encode())

    def overlap(raw: bytearray) -> None:  # the second entry inside the first
        second = raw.index(b"PK\1\2", raw.index(b"PK\1\2") + 1)
        struct.pack_into("<I", raw, second + 42, 0)

    yield archive(program(b"}"), overlap)
    inner = archive(program(b"}"))
    quine = bytearray(archive(program(b"B" + struct.pack("<I", len(inner)) + inner, 3)))
    yield bytes(quine) + inner


def lying_tensors() -> Iterator[bytes]:
    fine = (number(0), numbers(4), numbers(1))
    for elements, kind in ((5, "FloatStorage"), (3, "FloatStorage"), (4, "DoubleStorage")):
        yield zipped(tensor(*fine, elements=elements, kind=kind), s0=bytes(16))
    yield zipped(tensor(*fine, elements=-4), s0=bytes(16))
    yield zipped(tensor(*fine))  # no storage
    for offset, sizes, strides in (
        (1, [4], [1]),
        (-1, [4], [1]),
        (0, [5], [1]),
        (0, [-1], [1]),
        (3, [4], [-1]),
        (0, [2**62, 4], [2**62, 1]),
        (0, [2], [4]),
        (0, [2**40], [0]),  # one element over and over
        (0, [4], [1, 1]),
        (0, [2, 2], [1]),
        (5, [0], [1]),
        (0, [0], [2**63]),
        (0, [1] * 17, [1] * 17),
    ):
        yield zipped(tensor(number(offset), numbers(*sizes), numbers(*strides)), s0=bytes(16))
    yield zipped(tensor(number(0), text("4"), text("1")), s0=bytes(16))
    yield zipped(tensor(number(0), b"G" + bytes(8) + b"\x85", numbers(1)), s0=bytes(16))
    yield zipped(tensor(number(0), b"\x88\x85", numbers(1)), s0=bytes(16))
    yield zipped(tensor(*fine) + b"K\0Ns", s0=bytes(16))  # items of no dict
    yield zipped(tensor(*fine) + b"(NNe", s0=bytes(16))
    yield zipped(tensor(*fine) + b"}b", s0=bytes(16))
    yield zipped(
        b"](" + tensor(*fine) + tensor(*fine, elements=2, kind="LongStorage") + b"e", s0=bytes(16)
    )
    yield zipped(tensor(*fine, kind="ComplexFloatStorage"), s0=bytes(32))
    for attribute in (
        "_rebuild_sparse_tensor",
        "_rebuild_meta_tensor_no_storage",
        "_rebuild_qtensor",
    ):
        yield zipped(call("torch._utils", attribute, b"N", b"N"), s0=bytes(16))
    hooked = b"}" + text("h") + name("model", "hook") + b"s"
    yield zipped(
        call("torch._utils", "_rebuild_parameter", tensor(*fine), b"\x88", hooked), s0=bytes(16)
    )
    yield zipped(call("torch._utils", "_rebuild_parameter", text("x"), b"\x88", b"N"))
    yield zipped(call("torch._utils", "_rebuild_tensor_v2", b"N"))
    hooked_tensor = tensor(*fine).replace(call("collections", "OrderedDict"), hooked)
    yield zipped(hooked_tensor, s0=bytes(16))
    yield zipped(tensor(*fine).replace(storage("0", 4) + b"Q", text("0")), s0=bytes(16))
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as file:
        file.writestr("m/data.pkl", program(tensor(*fine)))
        file.writestr("m/byteorder", "big" if sys.byteorder == "little" else "little")
        file.writestr("m/data/0", bytes(16))
    yield buffer.getvalue()
    two_sizes = program(b"(" + storage("0", 2) + b"Q" + storage("0", 3) + b"Qt")
    keys = program(b"]" + text("0") + b"a")
    yield legacy(b"", b"", b"", two_sizes, keys, rest=struct.pack("<qq", 2, 0))
