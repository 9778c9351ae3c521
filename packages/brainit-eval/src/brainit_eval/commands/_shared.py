"""What the commands share: a user's mistake is one line, never a traceback."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

_LAYOUT = "a folder (of pictures, of subjects, of samples in subjects), .h5, .npz or .npy"
Recons = Annotated[Path, typer.Option(help=f"Reconstructions by image id: {_LAYOUT}.")]
Targets = Annotated[Path, typer.Option(help="The images seen, likewise, with the same ids.")]
Weights = Annotated[
    Path | None, typer.Option(help="Folder of weight files; else torch's own, else fetched.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


def clear_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn expected errors into one line on standard error and exit code 1; Ctrl-C into 130."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (OSError, ValueError, ImportError) as error:
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            typer.echo("interrupted; no file is left half written", err=True)
            raise typer.Exit(130) from None

    return wrapped


def echo_table(rows: Iterable[tuple[str, ...]]) -> None:
    """Print rows of text with their columns aligned."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo(f"  {'  '.join(cells)}".rstrip())
