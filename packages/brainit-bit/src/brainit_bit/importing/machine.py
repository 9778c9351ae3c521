"""The stack machine that pickles are programs for, able to build data and nothing else."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from brainit_bit.importing.calls import call, check_key, check_name
from brainit_bit.importing.inert import Name, Record, kind_of, refuse

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


class Machine:
    """Stack, marks and memo; a method an opcode that is more than a push."""

    def __init__(self, persistent: Callable[[object], Any]) -> None:
        self.result: Any = None
        self._load = persistent
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

    def _protocol(self, version: int) -> None:
        if not 2 <= version <= 5:
            refuse(f"pickle protocol {version}: expected 2 to 5")

    def _mark(self, _: Any) -> None:
        self._outer.append(self._stack)
        self._stack = []

    def _put(self, index: int) -> None:
        if index in self._memo:
            refuse("a broken pickle: a memo number twice")
        self._memo[index] = self._top()

    def _memoize(self, _: Any) -> None:
        self._put(len(self._memo))

    def _get(self, index: int) -> None:
        if index not in self._memo:
            refuse("a broken pickle: a memo number that was never set")
        self._stack.append(self._memo[index])

    def _tuple_of_marked(self, _: Any) -> None:
        items = self._pop_to_mark()
        self._stack.append(tuple(items))

    def _tuple_of(self, count: int) -> None:
        items = [self._pop() for _ in range(count)]
        self._stack.append(tuple(reversed(items)))

    def _append(self, items: list[Any]) -> None:
        target = self._top()
        if type(target) is not list:
            refuse(f"it appends to a {kind_of(target)}")
        target.extend(items)

    def _add_items(self, _: Any) -> None:
        items, target = self._pop_to_mark(), self._top()
        if type(target) is not set:
            refuse(f"it adds to a {kind_of(target)}")
        for item in items:
            check_key(item)
        target.update(items)

    def _set_items(self, items: list[Any]) -> None:
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

    def _name(self, words: str) -> None:
        self._named(*words.split(" ", 1))

    def _stack_name(self, _: Any) -> None:
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

    def _reduce(self, _: Any) -> None:
        arguments, function = self._pop(), self._pop()
        self._stack.append(call(function, arguments))

    def _instance(self, _: Any) -> None:
        arguments, kind = self._pop(), self._pop()
        if not isinstance(kind, Name) or type(arguments) is not tuple:
            refuse(f"an instance of a {kind_of(kind)}")
        self._stack.append(Record(kind, arguments))

    def _build(self, _: Any) -> None:
        state, target = self._pop(), self._top()
        parts = state if type(state) is tuple else (state,)
        for part in (part for part in parts if isinstance(part, dict)):
            _check_attributes(part)
        if isinstance(target, Record) and target.state is None and state is not None:
            target.state = state
        elif not isinstance(target, OrderedDict) or not isinstance(state, dict):
            # Attributes of an OrderedDict (a state dict's `_metadata`) hold no weights.
            refuse(f"it sets the state of a {kind_of(target)}")

    def _identity(self, _: Any) -> None:
        self._stack.append(self._load(self._pop()))

    def _stop(self, _: Any) -> None:
        self.result = self._pop()
        if self._stack or self._outer:
            refuse("a broken pickle: more than one object")


def _check_attributes(state: dict[Any, Any]) -> None:
    for name in state:
        dunder = type(name) is str and name.startswith("__")
        if dunder and name != "__orig_class__":  # which a typed OrderedDict keeps
            refuse(f"it sets the attribute {ascii(name)[:40]}")


_STEPS: dict[str, Callable[[Machine, Any], None]] = {
    "PROTO": Machine._protocol,
    "MARK": Machine._mark,
    "BINPUT": Machine._put,
    "LONG_BINPUT": Machine._put,
    "MEMOIZE": Machine._memoize,
    "BINGET": Machine._get,
    "LONG_BINGET": Machine._get,
    "TUPLE": Machine._tuple_of_marked,
    "TUPLE1": lambda machine, _: machine._tuple_of(1),
    "TUPLE2": lambda machine, _: machine._tuple_of(2),
    "TUPLE3": lambda machine, _: machine._tuple_of(3),
    "APPEND": lambda machine, _: machine._append([machine._pop()]),
    "APPENDS": lambda machine, _: machine._append(machine._pop_to_mark()),
    "ADDITEMS": Machine._add_items,
    "SETITEM": lambda machine, _: machine._set_items([machine._pop(), machine._pop()][::-1]),
    "SETITEMS": lambda machine, _: machine._set_items(machine._pop_to_mark()),
    "GLOBAL": Machine._name,
    "STACK_GLOBAL": Machine._stack_name,
    "REDUCE": Machine._reduce,
    "NEWOBJ": Machine._instance,
    "BUILD": Machine._build,
    "BINPERSID": Machine._identity,
    "STOP": Machine._stop,
}
KNOWN = {*CONSTANTS, *ARGUMENTS, *_STEPS, "FRAME"}
