"""The score table on a terminal."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from brainit.run_folder import RunFolder

METRICS = ("pixcorr", "ssim", "two_way_early", "two_way_late", "two_way_clip")


def print_scores(run: RunFolder, console: Console) -> None:
    """Print scores.json: a row per method, a column per metric, 95 % intervals below the values."""
    scores = json.loads(run.output("evaluate", "scores").read_text())
    table = Table(title="Held-out images, mean over subjects [95 % interval]", title_justify="left")
    table.add_column("")
    for metric in METRICS:
        # Broken by hand: a column must not be cut on a terminal of 80 characters.
        head, _, tail = metric.rpartition("_")
        table.add_column(f"{head}\n{tail}" if head else tail, justify="right", no_wrap=True)
    for method, values in scores.items():
        cells = (
            f"{v['value']:.3f}\n[dim]{v['low']:.2f}-{v['high']:.2f}[/dim]"
            for v in map(values.get, METRICS)
        )
        table.add_row(method, *cells)
    console.print(table)
