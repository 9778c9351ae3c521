"""Pickles as data: the bytes of a pickle to the objects that it describes.

A pickle is a program for a small stack machine. Python's own machine imports names and calls them,
which is how a file runs code. To subclass its Unpickler and override `find_class` leaves all else
to it: calls of whatever came out of `find_class`, `__setstate__`, extension codes, and its own idea
of what a byte means. Our machine (`machine`) has 41 opcodes, those that protocols 2 to 5 write for
models. A name stays a name, an instance becomes a record, a call is looked up in a table of a few
(`calls`). There is no import, no getattr and no call of anything that came from the file. Since
nothing else reads the bytes, no second reader can disagree with the first. How an opcode's argument
is written is read off the standard library's table of opcodes, `pickletools`, after the opcode is
found to be one of the known.

Time and memory are linear in the pickle, whose size is limited, as is the number of opcodes.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from typing import Any

from brainit_bit.importing.inert import refuse
from brainit_bit.importing.machine import KNOWN, Machine

MAX_PICKLE_BYTES = 8 * 2**20
MAX_OPCODES = 200_000
OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}


def run_pickle(data: bytes, persistent: Callable[[object], Any]) -> tuple[Any, int]:
    """Build what the first pickle in `data` describes.

    Args:
        data: One pickle, perhaps with more behind it; the caller keeps it below MAX_PICKLE_BYTES.
        persistent: Turns a persistent id into the object it stands for.

    Returns:
        The object, and the number of bytes that the pickle took. The object consists of None, bool,
        int, float, str, bytes, tuple, list, dict, set, Tensor, Name and Record.

    Raises:
        UnsafeCheckpoint: If the bytes are no such pickle.
    """
    machine = Machine(persistent)
    file, position, frame_end = io.BytesIO(data), 0, None
    for count in range(MAX_OPCODES):
        name, argument = _next_opcode(file)
        if (name == "PROTO") != (count == 0):
            refuse("a pickle that does not begin with its protocol, 2 to 5")
        if name == "FRAME":
            frame_end = _frame_end(argument, file.tell(), frame_end, len(data))
        else:
            machine.step(name, argument)
        position = file.tell()
        if frame_end is not None and position >= frame_end:
            if position > frame_end:
                refuse("a frame that ends inside an opcode")
            frame_end = None
        if name == "STOP":
            if frame_end is not None:
                refuse("a frame that goes on behind the pickle")
            return machine.result, position
    refuse(f"a pickle of more than {MAX_OPCODES} opcodes")


def _next_opcode(file: io.BytesIO) -> tuple[str, Any]:
    """Name and argument of the next opcode; an argument is read only of opcodes that are known."""
    code = OPCODES.get(file.read(1).decode("latin-1"))
    if code is None:
        refuse("a broken pickle: it has no end or an unknown opcode")
    if code.name not in KNOWN:
        refuse(f"the opcode {code.name}, which no model file needs")
    try:
        return code.name, None if code.arg is None else code.arg.reader(file)
    except ValueError as error:
        refuse(f"a broken pickle: {ascii(str(error))[1:81]}")


def _frame_end(size: int, start: int, frame_end: int | None, total: int) -> int:
    end = start + size
    if frame_end is not None or end > total:
        refuse("a frame inside a frame or larger than the pickle")
    return end
