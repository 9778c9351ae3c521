"""`brainit-diffusion convert`: checkpoints between the layouts of `sgm` and of diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from brainit_diffusion._command import clear_errors


@clear_errors
def convert(
    source: Annotated[
        Path, typer.Argument(help="sgm checkpoint (.ckpt, .safetensors), or diffusers' folder.")
    ],
    output: Annotated[
        Path, typer.Argument(help="Folder for diffusers; a .safetensors file for sgm.")
    ],
    model: Annotated[
        Literal["unclip", "sdxl"], typer.Option(help="What a checkpoint holds.")
    ] = "unclip",
    like: Annotated[
        Path | None, typer.Option(help="Or: a diffusers folder of the same sizes.")
    ] = None,
) -> None:
    """Convert UNet and VAE of the public unCLIP checkpoint or of SDXL, or back from a folder.

    A tensor that is missing, left over or of another shape is an error. No code of a file is run.
    """
    from brainit_diffusion.checkpoint_files import (
        convert_to_diffusers,
        convert_to_sgm,
        read_configs,
    )
    from brainit_diffusion.conversion import known_configs

    if source.is_dir():
        convert_to_sgm(source, output)
    else:
        configs = known_configs()[model] if like is None else read_configs(like)
        convert_to_diffusers(source, output, configs)
    typer.echo(f"{output}: converted from {source}")
