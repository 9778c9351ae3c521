"""What commands of the package share: clear errors, an end in order, numbers, outputs kept."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from safetensors import SafetensorError

Output = Annotated[Path, typer.Option("--output", "-o", help="File to write.")]
Folder = Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what exists of the output.")]


def clear_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn a user's mistakes into one line and exit code 1, and let SIGTERM end it in order."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            with _ending_in_order():
                command(*args, **kwargs)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            text = error.args[0] if isinstance(error, KeyError) else error
            typer.echo(f"error: {' '.join(str(text).split())}", err=True)
            raise typer.Exit(1) from None

    return wrapped


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """SIGTERM, as schedulers send it, removes what is half written, as Ctrl-C does; exit 143."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def numbers(text: str, option: str) -> tuple[int, ...]:
    """Numbers such as "1,2,5-7", ascending.

    Raises:
        ValueError: naming `option`.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = (first, last if dash else first)
        if not all(end.isascii() and end.isdigit() and len(end) < 4 for end in ends):
            raise ValueError(f"{option} {text}: expected numbers such as 1,2,5-7")
        if not 1 <= int(ends[0]) <= int(ends[1]):
            raise ValueError(f"{option} {text}: {part} does not count up from 1 or more")
        found.update(range(int(ends[0]), int(ends[1]) + 1))
    return tuple(sorted(found))


def check_output(path: Path, force: bool) -> None:
    """Refuse early, before the work is done.

    Raises:
        FileExistsError: if the file is there and may not be replaced.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, expected a file to write")
    if path.exists() and not force:
        raise FileExistsError(f"{path}: exists already; add --force to replace it")
