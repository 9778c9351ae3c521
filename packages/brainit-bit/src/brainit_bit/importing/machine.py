"""A pickle machine that builds data and has no way to do anything else.

A pickle is a program for a small stack machine. Python's own machine imports names and calls them,
which is how a file runs code. To subclass its Unpickler and override `find_class` leaves all other
opcodes to it: calls of whatever came out of `find_class`, `__setstate__`, extension codes, and its own
idea of what a byte means. This machine has 40 opcodes, those that pickle protocols 2 to 5 write for
models. A name stays a name, an instance becomes a record, a call is looked up in a table of a dozen
(`calls`). There is no import, no getattr and no call of anything that came from the file. Since
nothing else reads the bytes, no second reader can disagree with the first. How an opcode's argument
is written is read off the standard library's table of opcodes, `pickletools`, after the opcode is
found to be one of the known.

Time and memory are linear in the pickle, whose size is limited, as is the number of opcodes.
"""

from __future__ import annotations

import io
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from brainit_bit.importing.calls import call, check_key, check_name
from brainit_bit.importing.inert import Name, Record, kind_of, refuse

MAX_PICKLE_BYTES = 8 * 2**20
MAX_OPCODES = 200_000

CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
ARGUMENTS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"} | {
    "SHORT_BINUNICODE",
    "BINBYTES",
    "SHORT_BINBYTES",
}


def run_pickle(data: bytes, persistent: Callable[[object], Any]) -> tuple[Any, int]:
    """Build what the first pickle in `data` describes.

    Args:
        data: One pickle, perhaps with more behind it; MAX_PICKLE_BYTES at most.
        persistent: Turns a persistent id into the object it stands for.

    Returns:
        The object, and the number of bytes that the pickle took. The object consists of None, bool,
        int, float, str, bytes, tuple, list, dict, set, Tensor, Name and Record.

    Raises:
        UnsafeCheckpoint: If the bytes are no such pickle.
    """
    if len(data) > MAX_PICKLE_BYTES:
        refuse(f"a pickle of more than {MAX_PICKLE_BYTES} bytes")
    machine = _Machine(persistent)
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
    code = pickletools.code2op.get(file.read(1).decode("latin-1"))
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


class _Machine:
    """Stack, marks and memo; a method an opcode that is more than a push."""

    def __init__(self, persistent: Callable[[object], Any]) -> None:
        self.result: Any = None
        self._persistent = persistent
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Run one opcode."""
        if name in ARGUMENTS:
            self._stack.append(argument)
        elif name in CONSTANTS:
            self._stack.append(CONSTANTS[name]())
        else:
            _STEPS[name](self, argument)

    def _pop(self) -> Any:
        if not self._stack:
            refuse("a broken pickle: its stack is empty")
        return self._stack.pop()

    def _top(self) -> Any:
        value = self._pop()
        self._stack.append(value)
        return value

    def _pop_to_mark(self) -> list[Any]:
        if not self._outer:
            refuse("a broken pickle: a mark is missing")
        items = self._stack
        self._stack = self._outer.pop()
        return items

    def protocol(self, version: int) -> None:
        if not 2 <= version <= 5:
            refuse(f"pickle protocol {version}: expected 2 to 5")

    def mark(self, _: Any) -> None:
        self._outer.append(self._stack)
        self._stack = []

    def put(self, index: int) -> None:
        if index in self._memo:
            refuse("a broken pickle: a memo number twice")
        self._memo[index] = self._top()

    def memoize(self, _: Any) -> None:
        self.put(len(self._memo))

    def get(self, index: int) -> None:
        if index not in self._memo:
            refuse("a broken pickle: a memo number that was never set")
        self._stack.append(self._memo[index])

    def tuple_of_marked(self, _: Any) -> None:
        items = self._pop_to_mark()
        self._stack.append(tuple(items))

    def tuple_of(self, count: int) -> None:
        items = [self._pop() for _ in range(count)]
        self._stack.append(tuple(reversed(items)))

    def append(self, items: list[Any]) -> None:
        target = self._top()
        if type(target) is not list:
            refuse(f"it appends to a {kind_of(target)}")
        target.extend(items)

    def add_items(self, _: Any) -> None:
        items, target = self._pop_to_mark(), self._top()
        if type(target) is not set:
            refuse(f"it adds to a {kind_of(target)}")
        for item in items:
            check_key(item)
        target.update(items)

    def set_items(self, items: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, dict):
            refuse(f"it sets items of a {kind_of(target)}")
        if len(items) % 2:
            refuse("a broken pickle: a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            check_key(key)
            if key in target:
                refuse("a dict with a key twice")
            target[key] = value

    def name(self, words: str) -> None:
        self._named(*words.split(" ", 1))

    def stack_name(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        self._named(module, name)

    def _named(self, module: Any, name: Any) -> None:
        for words in (module, name):
            if type(words) is not str or not words.isascii() or len(words) > 200:
                refuse("a name that is no name")
        if not name.isidentifier() or not all(map(str.isidentifier, module.split("."))):
            refuse("a name that is no name")
        found = Name(module, name)
        check_name(found)
        self._stack.append(found)

    def reduce(self, _: Any) -> None:
        arguments, function = self._pop(), self._pop()
        self._stack.append(call(function, arguments))

    def instance(self, _: Any) -> None:
        arguments, kind = self._pop(), self._pop()
        if not isinstance(kind, Name) or type(arguments) is not tuple:
            refuse(f"an instance of a {kind_of(kind)}")
        self._stack.append(Record(kind, arguments))

    def build(self, _: Any) -> None:
        state, target = self._pop(), self._top()
        parts = state if type(state) is tuple else (state,)
        for part in (part for part in parts if isinstance(part, dict)):
            _check_attributes(part)
        if isinstance(target, Record) and target.state is None and state is not None:
            target.state = state
        elif not isinstance(target, OrderedDict) or not isinstance(state, dict):
            # Attributes of an OrderedDict (a state dict's `_metadata`) hold no weights.
            refuse(f"it sets the state of a {kind_of(target)}")

    def persistent(self, _: Any) -> None:
        self._stack.append(self._persistent(self._pop()))

    def stop(self, _: Any) -> None:
        self.result = self._pop()
        if self._stack or self._outer:
            refuse("a broken pickle: more than one object")


def _check_attributes(state: dict[Any, Any]) -> None:
    for name in state:
        dunder = type(name) is str and name.startswith("__")
        if dunder and name != "__orig_class__":  # which a typed OrderedDict keeps
            refuse(f"it sets the attribute {ascii(name)[:40]}")


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine.protocol,
    "MARK": _Machine.mark,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "TUPLE": _Machine.tuple_of_marked,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "APPEND": lambda machine, _: machine.append([machine._pop()]),
    "APPENDS": lambda machine, _: machine.append(machine._pop_to_mark()),
    "ADDITEMS": _Machine.add_items,
    "SETITEM": lambda machine, _: machine.set_items([machine._pop(), machine._pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.set_items(machine._pop_to_mark()),
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stack_name,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.instance,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
    "STOP": _Machine.stop,
}
KNOWN = {*CONSTANTS, *ARGUMENTS, *_STEPS, "FRAME"}
