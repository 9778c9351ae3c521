"""What everything in a foreign checkpoint becomes that is no tensor and no plain container."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn


class UnsafeCheckpoint(ValueError):
    """A checkpoint that was refused: it is damaged, or it holds more than data."""


def refuse(reason: str) -> NoReturn:
    """Raise UnsafeCheckpoint."""
    raise UnsafeCheckpoint(reason)


@dataclass(frozen=True, slots=True)
class Name:
    """The name of a class or function: two words, never looked up.

    Attributes:
        module: For example "torch.nn.modules.linear".
        name: For example "Linear".
    """

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True)
class Record:
    """An instance of some class, as data: no code of that class ran.

    Attributes:
        kind: The class.
        arguments: What it would have been made with.
        state: Its attributes, in nearly all files a dict; None before they are known.
    """

    kind: Name
    arguments: tuple[Any, ...]
    state: Any = None

    def attributes(self) -> dict[str, Any]:
        """The state if it is a dict, else nothing."""
        return self.state if isinstance(self.state, dict) else {}


def kind_of(value: object) -> str:
    """A short word for messages; never the value itself, which may be huge or hostile."""
    return str(value.kind) if isinstance(value, Record) else type(value).__name__
