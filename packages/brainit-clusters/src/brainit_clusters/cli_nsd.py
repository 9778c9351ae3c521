"""`brainit-clusters nsd`: the Natural Scenes Dataset on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brainit_clusters._command import Force, Output, check_output, clear_errors
from brainit_clusters.data.nsd import NSDConfig, prepare_nsd

app = typer.Typer(help="The Natural Scenes Dataset (NSD).", no_args_is_help=True)

Root = Annotated[Path, typer.Argument(help="Folder that holds nsddata and nsddata_betas.")]


@app.command()
@clear_errors
def prepare(root: Root, output: Output, force: Force = False) -> None:
    """Turn an NSD tree into dataset.h5."""
    check_output(output, force)
    prepare_nsd(root, output, NSDConfig())
    typer.echo(str(output))
