"""`brainit-diffusion tokens`: CLIP tokens of many images, into a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brainit_diffusion import cli_options as options
from brainit_diffusion._command import clear_errors


@clear_errors
def tokens(
    images: Annotated[
        Path, typer.Argument(help="Folder of images, or HDF5 file such as nsd_stimuli.hdf5.")
    ],
    output: Annotated[Path, typer.Argument(help="Folder of the store; a stopped run goes on.")],
    model: options.Model = "ViT-bigG-14",
    pretrained: options.Pretrained = "laion2b_s39b_b160k",
    pixels: options.PixelsOf = "clip",
    final_norm: options.FinalNorm = False,
    precision: options.PrecisionOf = "fp32",
    batch_size: options.BatchSize = 64,
    shard_size: Annotated[int, typer.Option(min=1, help="Images in a file.")] = 256,
    device: options.Device = "",
    dataset: options.Dataset = "imgBrick",
) -> None:
    """Write the CLIP patch tokens of images, by image id, in float16."""
    from brainit_diffusion.image_files import open_images, store_tokens

    found = open_images(images, dataset)
    clip = options.load_clip(model, pretrained, pixels, final_norm, precision, device)
    source = {"model": model, "pretrained": options.weights_of(model, pretrained)}
    store = store_tokens(
        output, found, clip, source, batch_size=batch_size, shard_size=shard_size, progress=True
    )
    n_images, count, width = store.shape
    typer.echo(f"{output}: {n_images} images, {count} tokens of width {width} each")
