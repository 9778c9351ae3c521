"""`brainit-eval leaderboard`: your results beside published ones of the same protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brainit_eval.commands._shared import clear_errors


@clear_errors
def leaderboard(
    results: Annotated[list[Path], typer.Argument(help="Result folders that `score` wrote.")],
    ranked_by: Annotated[str, typer.Option(help="Metric; else EfficientNet's, if scored.")] = "",
    as_markdown: Annotated[bool, typer.Option("--markdown", help="As a Markdown table.")] = False,
) -> None:
    """Put results beside the published ones of the same protocol, test set and subjects."""
    from brainit_eval.leaderboard import leaderboard as make
    from brainit_eval.leaderboard import load_published, markdown, terminal
    from brainit_eval.records.result import Result

    board = make([Result.read(path) for path in results], load_published(), ranked_by or None)
    typer.echo((markdown if as_markdown else terminal)(board), nl=False)
