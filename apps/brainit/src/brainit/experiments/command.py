"""`brainit experiment NAME`."""

from __future__ import annotations

from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


class Name(StrEnum):
    """An experiment: a module of `brainit.experiments`."""

    branches = "branches"
    transfer = "transfer"
    left_out = "left-out"
    clusters = "clusters"
    external = "external"
    trials = "trials"
    scenes = "scenes"
    tokens = "tokens"


def experiment(
    name: Annotated[Name, typer.Argument(help="Which one.")],
    run: Annotated[Path, typer.Option("--run", help="A finished run: the base.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report; else experiments/NAME in the run.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override in all runs, as KEY=VALUE.")
    ] = None,
) -> None:
    """Make the runs that an experiment compares, and a report with intervals.

    What is unchanged is taken over from the base. Stopped, the same command goes on.
    """
    from brainit.experiments.findings import write
    from brainit.experiments.runs import changed
    from brainit.run_folder import RunFolder

    console = Console(highlight=False)
    base, folder = RunFolder(run), out or run / "experiments" / name
    if overrides:
        base = changed(base, folder / "base", overrides, console)
    findings = import_module(f"brainit.experiments.{name.name}").run(base, folder, console)
    for line in findings.sentences:
        console.print(line)
    page = write(findings, name, base, folder)
    console.print(f"report: {page.resolve()}", soft_wrap=True)
