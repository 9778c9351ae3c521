"""``brainit-eval compare``: two result folders, one table, paired tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brainit_eval.commands._shared import Overwrite, clear_errors, echo_table

if TYPE_CHECKING:
    from brainit_eval.statistics import Comparison

_HEADS = ("", "first", "second", "difference", "95 %", "p", "Holm", "p subjects", "better")


@clear_errors
def compare(
    result_a: Annotated[Path, typer.Argument(help="Result folder of one method.")],
    result_b: Annotated[Path, typer.Argument(help="Result folder of another.")],
    out: Annotated[Path | None, typer.Option(help="Write the comparison here, as JSON.")] = None,
    permutations: Annotated[int, typer.Option(min=1, help="Sign patterns drawn.")] = 10_000,
    bootstrap: Annotated[int, typer.Option(min=1, help="Resamples behind each interval.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of both.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Compare two methods scored under one protocol on the same images."""
    from brainit_eval.records.result import Result
    from brainit_eval.records.writing import check_free
    from brainit_eval.statistics import compare as compare_results

    if out is not None:
        check_free(out, overwrite)
    found = compare_results(
        Result.read(result_a),
        Result.read(result_b),
        n_permutations=permutations,
        n_bootstrap=bootstrap,
        seed=seed,
    )
    if out is not None:
        found.write(out)
    typer.echo(f"first:  {found.first}\nsecond: {found.second}")
    typer.echo(f"protocol {found.protocol} {found.protocol_hash[:16]}")
    echo_table(table(found))
    for note in found.notes:
        typer.echo(note)


def table(found: Comparison) -> list[tuple[str, ...]]:
    """The comparison as rows of text, head first."""
    rows: list[tuple[str, ...]] = [_HEADS]
    for name, row in found.metrics.items():
        rows.append(
            (
                f"{name} {'↑' if row.higher_is_better else '↓'}",
                f"{row.first:.4f}",
                f"{row.second:.4f}",
                f"{row.difference:+.4f}",
                f"[{row.low:+.4f}, {row.high:+.4f}]",
                *(f"{p:.4f}" for p in (row.p, row.p_holm, row.p_subjects)),
                row.better or "-",
            )
        )
    return rows
