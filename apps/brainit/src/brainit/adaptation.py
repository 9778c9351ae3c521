"""A new subject in a trained run: its profile, and its embeddings in files that fit one base."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from brainit.profile import Decoder, Profile, Training
from brainit.run_folder import RunError, RunFolder, replacing

EMBEDDINGS = "embeddings.safetensors"
WEIGHTS = "model.safetensors"
D = TypeVar("D", bound=Decoder)


def adapted_profile(base: RunFolder, subject: int) -> Profile:
    """The profile of a run that adapts a trained one to a new subject.

    Args:
        base: The trained run.
        subject: Number of the new subject in the scans that the base was trained on.

    Raises:
        RunError: The base cannot be adapted, or not to this subject.
    """
    profile = base.profile
    if profile.adaptation is None:
        raise RunError(f"{base.path}: its profile has no [adaptation]")
    if base.base is not None:
        raise RunError(f"{base.path}: is adapted itself; adapt its base, {base.base.path}")
    if subject in profile.data.subjects:
        raise RunError(
            f"{base.path}: was trained on subject {subject}; to hold it out, train with "
            "--set data.subjects=[...] without it"
        )
    how = replace(profile.adaptation, base=str(base.path.resolve()))

    def decoder(settings: D) -> D:
        training = _training(settings.training, how.decoder_epochs, how.decoder_learning_rate)
        return replace(settings, training=training, external_per_real=how.external_per_real)

    training = _training(profile.encoder.training, how.encoder_epochs, how.encoder_learning_rate)
    return replace(
        profile,
        data=replace(profile.data, subjects=(subject,), minutes=0.0, trials=0),
        encoder=replace(profile.encoder, training=training),
        low_level=decoder(profile.low_level),
        semantic=decoder(profile.semantic),
        evaluation=replace(profile.evaluation, subjects=(subject,)),
        adaptation=how,
    )


def _training(settings: Training, epochs: int, learning_rate: float) -> Training:
    return replace(settings, epochs=epochs, learning_rate=learning_rate, warmup_epochs=0)


def save_embeddings(folder: Path, tensors: dict[str, Tensor], base: Path) -> None:
    """Write what is a new subject's own, with the hash of the weights that it belongs to.

    Args:
        folder: Where to.
        tensors: Embeddings and what else there is.
        base: Folder of the model that was adapted.
    """
    with replacing(folder / EMBEDDINGS) as temporary:
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in tensors.items()},
            temporary,
            {"base": _hash(base / WEIGHTS)},
        )


def load_embeddings(folder: Path, base: Path) -> dict[str, Tensor]:
    """Read what `save_embeddings` wrote.

    Raises:
        RunError: They belong to other weights than those of `base`.
    """
    path = folder / EMBEDDINGS
    with safe_open(path, framework="pt") as file:
        if (file.metadata() or {}).get("base") != _hash(base / WEIGHTS):
            raise RunError(
                f"{path}: was trained with other weights than {base / WEIGHTS}; adapt again"
            )
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
