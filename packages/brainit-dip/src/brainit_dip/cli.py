"""The `brainit-dip` command: invert features, recover images, train an inverter."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NoReturn

import torch
import typer
from safetensors import SafetensorError
from safetensors.torch import save_file

from brainit_dip.config import PRESETS, InversionConfig
from brainit_dip.files import replacing
from brainit_dip.image_folder import list_images, read_image
from brainit_dip.inverter import Inverter
from brainit_dip.inverter_training import TrainingConfig, train_inverter
from brainit_dip.long_list import invert_file
from brainit_dip.vgg import load_vgg

app = typer.Typer(
    help="Images from VGG features.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Output = Annotated[Path, typer.Argument(help="Folder; a run that was stopped goes on.")]
Pictures = Annotated[Path, typer.Argument(help="Folder of pictures, searched recursively.")]
Vgg = Annotated[str, typer.Option(help="Name (vgg16_bn), file of weights or folder.")]
Thumbnail = Annotated[int, typer.Option(min=0, help="Side of the thumbnail map; 0 is none.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")]
Seed = Annotated[int, typer.Option(min=0, help="Added to each image's number.")]
Preset = Annotated[str, typer.Option(help=f"One of {', '.join(PRESETS)}.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Instead of the preset's.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images side by side.")]


def command(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command that turns a user's mistakes and a stop into one line and an exit code."""

    def register(run: Callable[..., None]) -> Callable[..., None]:
        @wraps(run)
        def wrapped(*args: Any, **kwargs: Any) -> None:
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
            try:
                run(*args, **kwargs)
            except KeyboardInterrupt:
                _fail("stopped; the same command goes on from there", 130)
            except (OSError, ValueError, RuntimeError, SafetensorError) as error:
                _fail(str(error), 1)

        return app.command(name)(wrapped)

    return register


@command("invert")
def invert(
    features: Annotated[Path, typer.Argument(help="Safetensors: tokens, or map_1 ... map_5.")],
    output: Output,
    vgg: Vgg = "vgg16_bn",
    thumbnail: Thumbnail = 0,
    preset: Annotated[
        str | None,
        typer.Option(help=f"One of {', '.join(PRESETS)}; fast, or warm with --inverter."),
    ] = None,
    steps: Steps = None,
    batch_size: BatchSize = 1,
    inverter: Annotated[Path | None, typer.Option(help="Folder that train-inverter wrote.")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """Find the images of features, one PNG and one safetensors file each."""
    readout = load_vgg(vgg, thumbnail).to(device)
    first = Inverter.load(inverter).to(device) if inverter else None
    config = _config(preset or ("warm" if first else "fast"), steps, batch_size)
    if preset == "warm" and not first:
        raise ValueError("--preset warm: expected an --inverter to start from")
    paths = invert_file(
        features, output, readout, config, seed, first, lambda done, n: typer.echo(f"{done} of {n}")
    )
    typer.echo(f"{output}: {len(paths)} images")


@command("recover")
def recover(
    images: Pictures,
    output: Output,
    vgg: Vgg = "vgg16_bn",
    thumbnail: Thumbnail = 0,
    preset: Preset = "fast",
    steps: Steps = None,
    batch_size: BatchSize = 1,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """Invert the true features of pictures: what inversion loses before any decoder does."""
    readout = load_vgg(vgg, thumbnail).to(device)
    pictures = [read_image(file, readout.image_size) for file in list_images(images)]
    with torch.no_grad():
        maps = [readout(picture[None].to(device)) for picture in pictures]
    levels = [torch.cat(level).cpu() for level in zip(*maps, strict=True)]
    output.mkdir(parents=True, exist_ok=True)
    features = output / "features.safetensors"
    with replacing(features) as temporary:
        save_file({f"map_{i}": x.contiguous() for i, x in enumerate(levels, 1)}, temporary)
    config = _config(preset, steps, batch_size)
    paths = invert_file(features, output, readout, config, seed)
    typer.echo(f"{output}: {len(paths)} images")


@command("train-inverter")
def train(
    images: Pictures,
    output: Output,
    vgg: Vgg = "vgg16_bn",
    thumbnail: Thumbnail = 0,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 20_000,
    batch_size: Annotated[int, typer.Option(min=2, help="Images a step.")] = 32,
    correlations: Annotated[
        tuple[float, float], typer.Option(help="Lowest and highest that the decoder reaches.")
    ] = (0.3, 1.0),
    width: Annotated[int, typer.Option(min=1, help="Channels at the finest map.")] = 32,
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="Under autocast.")] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read pictures.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, crops and corruption.")] = 0,
    device: Device = "cpu",
) -> None:
    """Train a feed-forward inverter: features to image in one pass."""
    readout = load_vgg(vgg, thumbnail).to(device)
    config = TrainingConfig(
        steps=steps,
        batch_size=batch_size,
        correlations=correlations,
        width=width,
        precision="bfloat16" if bfloat16 else "float32",
        seed=seed,
    )
    train_inverter(images, output, readout, config, workers, progress=True)
    typer.echo(f"{output}: an inverter for {vgg}")


def _config(preset: str, steps: int | None, batch_size: int) -> InversionConfig:
    changes = {} if steps is None else {"steps": steps}
    return InversionConfig.named(preset, batch_size=batch_size, **changes)


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    raise typer.Exit(code) from None
