"""Writing a model folder: float16 safetensors and JSON, each file whole or absent."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor


def write_model(
    folder: Path, weights: str, state: dict[str, Tensor], texts: dict[str, Any]
) -> Path:
    """Write weights as float16 and each text as JSON under `folder`.

    Args:
        folder: Created if missing.
        weights: File name of the safetensors file.
        state: State dict; floating tensors become float16, others stay.
        texts: JSON values by file name.

    Returns:
        The folder.

    Raises:
        ValueError: If a weight does not fit float16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    halves = {k: half(k, v) for k, v in state.items()}
    temporary = folder / f"{weights}.tmp"
    save_file(halves, temporary, metadata={"format": "pt"})
    temporary.chmod(0o644)  # safetensors leaves its files to their owner alone
    os.replace(temporary, folder / weights)
    for name, value in texts.items():
        temporary = folder / f"{name}.tmp"
        temporary.write_text(json.dumps(value, indent=1) + "\n")
        os.replace(temporary, folder / name)
    return folder


def half(name: str, value: Tensor) -> Tensor:
    """A tensor as contiguous float16 if it is floating, else as it is."""
    if not value.is_floating_point():
        return value.contiguous()
    result = value.detach().to(torch.float16).contiguous()
    if not bool(torch.isfinite(result).all()):
        raise ValueError(f"{name} does not fit float16")
    return result


def save_half(model: Any, folder: Path) -> Path:
    """Write a float16 copy of a diffusers model with its own `save_pretrained`."""
    halved = copy.deepcopy(model).half()
    for name, value in halved.state_dict().items():
        half(name, value)
    halved.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder


def fingerprint(folder: Path) -> str:
    """Sixteen hex digits that change with the weights in a model folder."""
    (weights,) = folder.glob("*.safetensors")
    return hashlib.sha256(weights.read_bytes()).hexdigest()[:16]


def shipped_models() -> Path:
    """The folder of the models that ship with Brain-IT."""
    return Path(str(resources.files("brainit") / "assets" / "models"))


def find_model(output: Path, name: str) -> Path:
    """A model's folder: the one trained under `output`, else the shipped one.

    Raises:
        FileNotFoundError: If there is neither.
    """
    for folder in (output / name, shipped_models() / name):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"no {name} under {output}: run `brainit zoo train {name}` first")
