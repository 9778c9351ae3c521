"""`brainit-diffusion recover`: images made again from their own tokens, as files to score."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brainit_diffusion import cli_options as options
from brainit_diffusion._command import clear_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@clear_errors
def recover(
    images: Annotated[Path, typer.Argument(help="Folder of images, or HDF5 file.")],
    models: Annotated[Path, typer.Argument(help="Folder of the unCLIP model, as of `convert`.")],
    output: Annotated[Path, typer.Argument(help="Folder to make, of PNG files by image id.")],
    coarse: Annotated[
        Path | None, typer.Option(help="Folder of coarse images with the same names.")
    ] = None,
    start_step: Annotated[int, typer.Option(min=0, help="With them, of all steps.")] = 14,
    steps: Annotated[int, typer.Option(min=1, help="Of the whole schedule.")] = 38,
    guidance: Annotated[float, typer.Option(help="Classifier-free; 1 is none.")] = 5.0,
    seed: Annotated[int, typer.Option(help="Of the first image; the next has the next.")] = 0,
    original_size: Annotated[
        int, typer.Option(min=0, help="Of the vector condition; the public checkpoint: 768.")
    ] = 0,
    model: options.Model = "ViT-bigG-14",
    pretrained: options.Pretrained = "laion2b_s39b_b160k",
    pixels: options.PixelsOf = "clip",
    final_norm: options.FinalNorm = False,
    precision: options.PrecisionOf = "fp32",
    batch_size: options.BatchSize = 32,
    device: options.Device = "",
    dataset: options.Dataset = "imgBrick",
) -> None:
    """Make images again from their true CLIP tokens: what the generator can do at best.

    Writes OUTPUT/from_tokens and, with coarse images, OUTPUT/fused, all or nothing. Scores are
    brainit-eval's.
    """
    import torch

    from brainit_diffusion._files import replacing
    from brainit_diffusion.image_files import open_images
    from brainit_diffusion.pixels import resize
    from brainit_diffusion.recovery import recover as recover_images
    from brainit_diffusion.unclip import UnCLIP

    if output.exists():
        raise FileExistsError(f"{output}: exists already")
    found = open_images(images, dataset)
    starts = None if coarse is None else open_images(coarse, dataset)
    if starts is not None and starts.ids != found.ids:
        raise ValueError(f"{coarse}: expected the same names as in {images}")
    clip = options.load_clip(model, pretrained, pixels, final_norm, precision, device)
    size = (original_size, original_size) if original_size else None
    unclip = UnCLIP.load(models, size).to(options.device_of(device))
    side = (unclip.image_size, unclip.image_size)
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

    def coarse_of(rows: range) -> Tensor | None:
        if starts is None:
            return None
        return torch.cat([resize(starts[row][None], side) for row in rows])

    with replacing(output) as temporary:
        for first in range(0, len(found.ids), batch_size):
            rows = range(first, min(first + batch_size, len(found.ids)))
            made = recover_images(
                unclip,
                clip,
                torch.cat([clip.resize(found[row][None]) for row in rows]),
                coarse_of(rows),
                start_step,
                seeds=[seed + row for row in rows],
                steps=steps,
                guidance_scale=guidance,
                dtype=dtypes[precision],
            )
            names = found.ids[rows.start : rows.stop]
            for kind, pictures in vars(made).items():
                if pictures is not None:
                    _write(temporary / kind, names, pictures)
    typer.echo(f"{output}: {len(found.ids)} images recovered")


def _write(folder: Path, names: Sequence[str], images: Tensor) -> None:
    from PIL import Image

    for name, pixels in zip(names, (images * 255).round().byte(), strict=True):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
