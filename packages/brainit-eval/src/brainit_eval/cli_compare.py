"""``brainit-eval compare``: two result folders, one table, paired tests."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from brainit_eval.results import Result
from brainit_eval.statistics.comparison import Comparison, compare


def compare_command(
    result_a: Annotated[Path, typer.Argument(help="Result folder of one method.")],
    result_b: Annotated[Path, typer.Argument(help="Result folder of another.")],
    out: Annotated[Path | None, typer.Option(help="Write the comparison here, as JSON.")] = None,
    permutations: Annotated[int, typer.Option(min=1, help="Sign patterns drawn.")] = 10_000,
    resamples: Annotated[int, typer.Option(min=1, help="Bootstrap resamples.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of both.")] = 0,
) -> None:
    """Compare two methods scored under one protocol on the same images."""
    try:
        results = Result.read(result_a), Result.read(result_b)
        found = compare(*results, n_permutations=permutations, n_bootstrap=resamples, seed=seed)
        if out is not None:
            _write(found, out)
    except (OSError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    console = Console()
    console.print(comparison_table(found))
    for note in found.notes:
        console.print(escape(note), highlight=False)


def comparison_table(found: Comparison) -> Table:
    """The comparison for a terminal."""
    title = f"{found.first} and {found.second}, {found.protocol[0]} ({found.protocol[1][:16]})"
    table = Table(title=escape(title))
    table.add_column("")
    heads = (found.first, found.second, "difference", "95 %", "p images", "Holm", "p subjects")
    for head in heads:
        table.add_column(escape(head), justify="right")
    table.add_column("better")
    for name, row in found.metrics.items():
        arrow = "↑" if row.higher_is_better else "↓"
        table.add_row(
            escape(f"{name} {arrow}"),
            f"{row.first:.4f}",
            f"{row.second:.4f}",
            f"{row.difference:+.4f}",
            f"{row.low:+.4f} to {row.high:+.4f}",
            *(f"{p:.4f}" for p in (row.p, row.p_holm, row.p_subjects)),
            escape(row.better or "-"),
        )
    return table


def _write(found: Comparison, path: Path) -> None:
    scratch = path.with_name(f".{path.name}.part")
    scratch.write_text(json.dumps(found.as_dict(), indent=1) + "\n", encoding="utf-8")
    os.replace(scratch, path)
