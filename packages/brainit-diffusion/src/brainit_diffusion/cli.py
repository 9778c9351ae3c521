"""The `brainit-diffusion` command: checkpoints, tokens, recovery, and what it all needs."""

from __future__ import annotations

import typer

from brainit_diffusion.cli_convert import convert
from brainit_diffusion.cli_plan import plan
from brainit_diffusion.cli_recover import recover
from brainit_diffusion.cli_tokens import tokens

app = typer.Typer(
    help="Images from CLIP tokens and a coarse image, by unCLIP diffusion.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (convert, plan, recover, tokens):
    app.command()(command)


if __name__ == "__main__":
    app()
