"""Checkpoints as files: `sgm`'s single file and diffusers' folders, read without running code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from brainit_diffusion._files import replacing
from brainit_diffusion.conversion import PARTS, Configs, to_diffusers, to_sgm


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Names and tensors of a file, mapped into memory rather than read where that is possible.

    Args:
        path: Safetensors, or what torch.save wrote (.ckpt, .pt); of a training's checkpoint the
            `state_dict`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is cut short, no checkpoint, or holds more than tensors and plain values.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UnpicklingError as error:
        raise ValueError(
            f"{path}: holds more than tensors, and no code of a file is run "
            f"({str(error).splitlines()[0]})"
        ) from error
    except (SafetensorError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{path}: cut short or not a checkpoint, download it again "
            f"({str(error).splitlines()[0]})"
        ) from error
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{path}: expected names and tensors, or a `state_dict` of them")
    return dict(state)


def read_configs(folder: Path) -> dict[str, dict[str, Any]]:
    """Configs of the diffusers folders `unet/` and `vae/`, whichever are there.

    Raises:
        FileNotFoundError: If there is neither.
    """
    configs: dict[str, dict[str, Any]] = {}
    for name, part in PARTS.items():
        if (folder / name / "config.json").is_file():
            found = json.loads((folder / name / "config.json").read_text())
            configs[name] = part.kind.extract_init_dict(found)[0]
    if not configs:
        raise FileNotFoundError(f"{folder}: expected unet/config.json or vae/config.json")
    return configs


def convert_to_diffusers(checkpoint: Path, output: Path, configs: Configs) -> None:
    """Write diffusers' folders of an `sgm` checkpoint: all of them or nothing.

    Args:
        checkpoint: File to read.
        output: Folder to make, with `unet/` and `vae/`.
        configs: Of the models in the file (`known_configs`, `read_configs`).

    Raises:
        FileExistsError: If the output exists.
        FileNotFoundError: If the checkpoint does not.
        ValueError: If the file is damaged, or of another model.
    """
    _refuse_existing(output)
    try:
        states = to_diffusers(read_checkpoint(checkpoint), configs)
    except ValueError as error:
        raise ValueError(_named(checkpoint, error)) from error
    with replacing(output) as temporary:
        for name, state in states.items():
            with torch.device("meta"):
                model = PARTS[name].kind(**configs[name])
            model.load_state_dict(state, assign=True)
            model.save_pretrained(temporary / name)


def convert_to_sgm(folder: Path, output: Path) -> None:
    """Write one `sgm` file (safetensors) of diffusers' folders `unet/` and `vae/`.

    Raises:
        FileExistsError: If the output exists.
        FileNotFoundError: If a folder lacks its config or its weights.
        ValueError: If weights are damaged or do not fit the config.
    """
    _refuse_existing(output)
    if output.suffix != ".safetensors":
        raise ValueError(f"{output}: expected a name that ends in .safetensors")
    configs = read_configs(folder)
    try:
        state = to_sgm({name: _read_folder(folder / name) for name in configs}, configs)
    except ValueError as error:
        raise ValueError(_named(folder, error)) from error
    with replacing(output) as temporary:
        save_file({name: value.contiguous() for name, value in state.items()}, temporary)


def _read_folder(folder: Path) -> dict[str, Tensor]:
    """All safetensors of a diffusers folder: one file, or the shards of a large model."""
    files = sorted(folder.glob("diffusion_pytorch_model*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder}: expected diffusion_pytorch_model.safetensors")
    return {name: value for file in files for name, value in read_checkpoint(file).items()}


def _refuse_existing(output: Path) -> None:
    if output.exists():
        raise FileExistsError(f"{output}: exists already")


def _named(path: Path, error: ValueError) -> str:
    text = str(error)
    return text if str(path) in text else f"{path}: {text}"
