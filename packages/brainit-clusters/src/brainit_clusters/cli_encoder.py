"""The commands of the encoder: from a dataset to embeddings, and to predicted responses."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from brainit_clusters._command import Folder, Output, clear_errors, numbers
from brainit_clusters._extras import import_extra
from brainit_clusters._files import replacing
from brainit_clusters.data.dataset import BrainDataset

if TYPE_CHECKING:
    from brainit_clusters.encoder import BrainEncoder, VoxelScores

BFloat16 = Annotated[bool, typer.Option("--bfloat16", help="Products in bfloat16: faster.")]


@clear_errors
def encode(
    dataset: Annotated[Path, typer.Argument(help="dataset.h5: images and betas.")],
    output: Folder,
    backbone: Annotated[
        str, typer.Option(help="dinov2:, transformers:, open_clip: or timm:, then a model's name.")
    ] = "dinov2:facebook/dinov2-with-registers-large",
    taps: Annotated[str, typer.Option(help="Blocks to read, from 1.")] = "1,6,12,18,24",
    encoder: Annotated[
        Path | None, typer.Option(help="Folder of a fitted encoder, for --subject.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option(help="Add this subject to --encoder, by its embeddings alone.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, batches and dropout.")] = 0,
    bfloat16: BFloat16 = False,
) -> None:
    """Fit the encoder: an embedding of every voxel, which `fit` clusters.

    The folder gets the encoder, embeddings.safetensors (what `fit` and `transfer` read) and
    scores.json. An interrupted call is gone on with by the same call.
    """
    torch = import_extra("torch", "encoder")
    from brainit_clusters.encoder import (
        BrainEncoder,
        EncoderConfig,
        FitConfig,
        fit_encoder,
        fit_subject,
        load_backbone,
        validate_encoder,
    )

    if (encoder is None) != (subject is None):
        raise ValueError("--encoder and --subject go together")
    config = FitConfig(epochs=epochs, seed=seed, bfloat16=bfloat16)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with BrainDataset.open(dataset) as data:
        if encoder is None or subject is None:
            torch.manual_seed(seed)
            sizes = EncoderConfig(taps=numbers(taps, "--taps"))
            model = BrainEncoder(sizes, load_backbone(backbone)).to(device)
            fit_encoder(model, data, output / "fit", config, progress=True)
            names = data.subjects
        else:
            model = BrainEncoder.from_pretrained(encoder).to(device)
            fit_subject(model, data, subject, output / "fit", config, progress=True)
            names = [subject]
        scores = validate_encoder(model, data, "val", names, progress=True)
    model.save_pretrained(output)
    _write_embeddings(output / "embeddings.safetensors", model, names)
    with replacing(output / "scores.json") as temporary:
        temporary.write_text(json.dumps(_summary(scores), indent=2) + "\n")
    for name, figures in _summary(scores).items():
        typer.echo(
            f"{name}: median correlation {figures['median_correlation']:.3f}, upper quarter "
            f"from {figures['upper_quarter_correlation']:.3f}"
        )
    typer.echo(f"{output / 'embeddings.safetensors'}: voxel embeddings of {', '.join(names)}")


@clear_errors
def predict(
    encoder: Annotated[Path, typer.Argument(help="Folder that `encode` wrote.")],
    images: Annotated[
        str, typer.Argument(help="Folder of pictures, or uint8 array (.npy, file.h5:/images).")
    ],
    output: Output,
    image_size: Annotated[int, typer.Option(min=1, help="Side of the stored images.")] = 224,
    bfloat16: BFloat16 = False,
) -> None:
    """Predict every voxel's response to images that nobody saw.

    An interrupted call is gone on with by the same call.
    """
    torch = import_extra("torch", "encoder")
    from brainit_clusters.data.other.arrays import open_array
    from brainit_clusters.data.other.stimuli import open_images
    from brainit_clusters.encoder import BrainEncoder, predict_external

    if output.exists():
        raise FileExistsError(f"{output}: exists already, whole; delete it to predict anew")
    folder = Path(images)
    if folder.is_dir():
        names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    else:
        names = {str(row) for row in range(open_array(images).shape[0])}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = BrainEncoder.from_pretrained(encoder).to(device)
    pictures = open_images(images, names, image_size)
    with torch.autocast(device, torch.bfloat16) if bfloat16 else nullcontext():
        predict_external(output, model, pictures, progress=True)
    typer.echo(f"{output}: {len(names)} images, {len(model.subjects)} subjects")


def _write_embeddings(path: Path, model: BrainEncoder, names: list[str]) -> None:
    from safetensors.numpy import save_file

    embeddings = {
        name: np.ascontiguousarray(model.voxel_embedding(name).detach().cpu().numpy())
        for name in names
    }
    with replacing(path) as temporary:
        save_file(embeddings, temporary)


def _summary(scores: dict[str, VoxelScores]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "median_correlation": float(np.nanmedian(one.correlation)),
            "upper_quarter_correlation": float(np.nanpercentile(one.correlation, 75)),
            "median_fraction_of_ceiling": (
                None if np.isnan(one.fraction).all() else float(np.nanmedian(one.fraction))
            ),
        }
        for name, one in scores.items()
    }
