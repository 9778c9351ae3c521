"""`brainit-eval report`: one page of a result, its pictures and what it compares with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brainit_eval.commands._shared import Overwrite, Recons, Targets, clear_errors


@clear_errors
def report(
    result: Annotated[Path, typer.Argument(help="Result folder that `score` wrote.")],
    recons: Recons,
    targets: Targets,
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    beside: Annotated[
        list[Path] | None, typer.Option(help="Another result for the score table; repeatable.")
    ] = None,
    controls: Annotated[
        Path | None, typer.Option(help="JSON file that `controls` wrote for these pictures.")
    ] = None,
    categories: Annotated[
        Path | None, typer.Option(help="CSV with the columns image_id and category.")
    ] = None,
    ranked_by: Annotated[str, typer.Option(help="Metric; else EfficientNet's, if scored.")] = "",
    overwrite: Overwrite = False,
) -> None:
    """Write a page: pictures beside what was seen, scores beside published ones, every image."""
    from brainit_eval.pictures.categories import read_categories
    from brainit_eval.pictures.open import open_pictures, open_truth
    from brainit_eval.records.result import Result
    from brainit_eval.records.writing import check_free
    from brainit_eval.report import Controls, result_report, write_report

    check_free(out, overwrite)
    found = Result.read(result)
    page = result_report(
        found,
        open_pictures(recons, found.subjects[0]),
        open_truth(targets),
        beside=[Result.read(path) for path in beside or ()],
        categories=None if categories is None else read_categories(categories),
        controls=None if controls is None else Controls.read(controls),
        ranked_by=ranked_by,
    )
    write_report(out, page)
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
