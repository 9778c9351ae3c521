"""Options that commands share: which CLIP model, with which conventions, where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from brainit_diffusion.clip_tokens import ClipTokens

Model = Annotated[str, typer.Option(help="OpenCLIP's name, hf-hub:ORG/REPO or local-dir:FOLDER.")]
Pretrained = Annotated[str, typer.Option(help="Weights of a model name: tag or file.")]
PixelsOf = Annotated[
    Literal["clip", "mindeye2"],
    typer.Option("--pixels", help="mindeye2: (x + 1) / 2 first, as for the public checkpoint."),
]
FinalNorm = Annotated[
    bool, typer.Option("--final-norm", help="Tokens after the last layer norm, not before.")
]
PrecisionOf = Annotated[
    Literal["fp32", "bf16", "fp16"], typer.Option("--precision", help="Of the models.")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images at a time.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, ...; the GPU if there is one.")]
Dataset = Annotated[str, typer.Option(help="Dataset of an HDF5 file.")]


def device_of(device: str) -> str:
    """The device that was asked for, or the GPU if there is one."""
    import torch

    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def weights_of(model: str, pretrained: str) -> str | None:
    """Weights of a model by name; a folder or repository has its own."""
    return None if model.startswith(("local-dir:", "hf-hub:")) else pretrained


def load_clip(
    model: str,
    pretrained: str,
    pixels: Literal["clip", "mindeye2"],
    final_norm: bool,
    precision: Literal["fp32", "bf16", "fp16"],
    device: str,
) -> ClipTokens:
    """The model that the options name."""
    from brainit_diffusion.clip_tokens import ClipTokens

    return ClipTokens.load(
        model,
        weights_of(model, pretrained),
        precision=precision,
        pixels=pixels,
        final_norm=final_norm,
    ).to(device_of(device))
