"""Parameters and settings of an inert module, by their dotted names."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from brainit_bit.importing.inert import Record, refuse

MAX_NAMES = 100_000


class NamedParts:
    """Everything under a checkpoint's object, as `state_dict` and `named_modules` would name it.

    A dict's items take its keys for names; a module's are its parameters, buffers and submodules.

    Args:
        root: What `read_checkpoint` returned.

    Attributes:
        tensors: Tensors by their dotted names.
        modules: Records by their dotted names; none in a plain state dict.

    Raises:
        UnsafeCheckpoint: If a module holds itself, or names are double or endless.
    """

    def __init__(self, root: object) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.modules: dict[str, Record] = {}
        self._open: set[int] = set()
        self._walk(root, "")

    def _walk(self, value: object, name: str) -> None:
        if isinstance(value, Tensor):
            self._add(self.tensors, name, value)
        elif isinstance(value, Record):
            self._add(self.modules, name, value)
            if id(value) in self._open:
                refuse("a module that holds itself")
            self._open.add(id(value))
            for group in ("_parameters", "_buffers", "_modules"):
                self._walk(value.attributes().get(group), name)
            self._open.remove(id(value))
        elif isinstance(value, dict):
            for key, item in value.items():
                self._walk(item, f"{name}.{key}" if name else str(key))

    def _add(self, found: dict[str, Any], name: str, value: object) -> None:
        if name in found or len(found) >= MAX_NAMES:
            refuse("two parts of one name" if name in found else f"more than {MAX_NAMES} parts")
        found[name] = value
