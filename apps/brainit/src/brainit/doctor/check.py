"""What a check found, and all of them as a table or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

State = Literal["ok", "warn", "fail"]
_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True)
class Check:
    """One line of the doctor's table.

    Attributes:
        name: What was looked at.
        state: "ok"; "warn": a run may do, but not as one might think; "fail": a run would stop.
        found: What is there.
        advice: What to do about it; empty where all is well.
    """

    name: str
    state: State
    found: str
    advice: str = ""


def failed(checks: Sequence[Check]) -> bool:
    """Whether a run would stop."""
    return any(check.state == "fail" for check in checks)


def as_json(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """The checks as JSON values, in order."""
    return [asdict(check) for check in checks]


def show(checks: Sequence[Check], title: str, console: Console) -> None:
    """Print the table; advice stands below what was found."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    for name in ("state", "name", "found"):
        table.add_column(name, no_wrap=name != "found", overflow="fold", vertical="top")
    for check in checks:
        said = Text(check.found)
        if check.advice:
            said.append(f"\n→ {check.advice}", style="dim")
        table.add_row(Text(check.state, style=_COLOURS[check.state]), check.name, said)
    console.print(table)


def gigabytes(size: float) -> str:
    """Bytes for reading: "3.2 GB", "18 MB"."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"
