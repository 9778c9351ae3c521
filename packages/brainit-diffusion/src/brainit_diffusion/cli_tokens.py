"""`brainit-diffusion tokens`: CLIP tokens of many images, into a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from brainit_diffusion._command import clear_errors


@clear_errors
def tokens(
    images: Annotated[
        Path, typer.Argument(help="Folder of images, or HDF5 file such as nsd_stimuli.hdf5.")
    ],
    output: Annotated[Path, typer.Argument(help="Folder of the store; a stopped run goes on.")],
    model: Annotated[
        str, typer.Option(help="OpenCLIP's name, hf-hub:ORG/REPO or local-dir:FOLDER.")
    ] = "ViT-bigG-14",
    pretrained: Annotated[
        str, typer.Option(help="Weights of a model name: tag or file.")
    ] = "laion2b_s39b_b160k",
    pixels: Annotated[
        Literal["clip", "mindeye2"],
        typer.Option(help="mindeye2: (x + 1) / 2 first, as for the public checkpoint."),
    ] = "clip",
    final_norm: Annotated[
        bool, typer.Option("--final-norm", help="Tokens after the last layer norm.")
    ] = False,
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"], typer.Option(help="Of the model.")
    ] = "fp32",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 64,
    shard_size: Annotated[int, typer.Option(min=1, help="Images in a file.")] = 256,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...; the GPU if there is one.")] = "",
    dataset: Annotated[str, typer.Option(help="Dataset of an HDF5 file.")] = "imgBrick",
) -> None:
    """Write the CLIP patch tokens of images, by image id, in float16."""
    import torch

    from brainit_diffusion.clip_tokens import ClipTokens
    from brainit_diffusion.image_files import open_images, store_tokens

    found = open_images(images, dataset)
    local = model.startswith(("local-dir:", "hf-hub:"))
    clip = ClipTokens.load(
        model,
        None if local else pretrained,
        precision=precision,
        pixels=pixels,
        final_norm=final_norm,
    ).to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    source = {"model": model, "pretrained": None if local else pretrained}
    store = store_tokens(
        output, found, clip, source, batch_size=batch_size, shard_size=shard_size, progress=True
    )
    n_images, count, width = store.shape
    typer.echo(f"{output}: {n_images} images, {count} tokens of width {width} each")
