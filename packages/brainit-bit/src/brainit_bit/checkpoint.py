"""Folders that hold a model: `config.json` and `model.safetensors`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"


def write_folder(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write both files, each under a temporary name first.

    Args:
        folder: Made if missing.
        config: What JSON can hold.
        tensors: The model's state.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    write_whole(folder / WEIGHTS_NAME, lambda path: save_file(state, path))
    text = json.dumps(config, indent=2) + "\n"
    write_whole(folder / CONFIG_NAME, lambda path: path.write_text(text, encoding="utf-8"))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file that then takes the place of `path`, or leave no trace."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(mode)  # safetensors leaves its files to their owner alone
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_folder(source: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read both files of a folder, or of an "owner/name" repository of the Hugging Face hub.

    Raises:
        FileNotFoundError: If there is no such folder or a file in it is missing.
        ValueError: If a file cannot be parsed.
    """
    folder = _locate(source)
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder}: expected a file {name}")
    try:
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS_NAME)
    except (ValueError, SafetensorError) as error:
        raise ValueError(f"{folder}: unreadable model: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{folder / CONFIG_NAME}: expected a JSON object")
    return config, tensors


def check_shapes(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not those of a model of the configured sizes.

    Raises:
        ValueError: At the first tensor that is missing, left over or of another shape.
    """
    for name in {**expected, **found}:
        shapes = [list(one[name].shape) if name in one else None for one in (expected, found)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{name}: {CONFIG_NAME} means {shapes[0]}, the file has {shapes[1]}")


def _locate(source: str | Path) -> Path:
    folder = Path(source)
    if folder.is_dir():
        return folder
    message = f"{source}: no such folder, nor a hub repository 'owner/name'"
    if isinstance(source, Path) or source.count("/") != 1:
        raise FileNotFoundError(message)
    try:
        return Path(snapshot_download(source, allow_patterns=[CONFIG_NAME, WEIGHTS_NAME]))
    except HFValidationError as error:
        raise FileNotFoundError(message) from error
