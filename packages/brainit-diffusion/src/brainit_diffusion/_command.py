"""What commands of the package share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import typer


def clear_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn a user's mistakes into one line and exit code 1."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            text = error.args[0] if isinstance(error, KeyError) else error
            typer.echo(f"error: {' '.join(str(text).split())}", err=True)
            raise typer.Exit(1) from None

    return wrapped
