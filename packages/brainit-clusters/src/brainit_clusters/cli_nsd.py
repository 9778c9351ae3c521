"""`brainit-clusters nsd`: the Natural Scenes Dataset on the command line."""

from __future__ import annotations

import typer

from brainit_clusters._command import clear_errors
from brainit_clusters.nsd_download.command import download

app = typer.Typer(help="The Natural Scenes Dataset (NSD).", no_args_is_help=True)
app.command()(clear_errors(download))
