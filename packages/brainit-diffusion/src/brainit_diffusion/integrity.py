"""Is a folder the whole checkpoint of the model that its configuration names?

Diffusers only warns where weights are missing, and leaves them random. Here everything is compared
before anything is read: names and shapes in the safetensors headers with those of the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

Shapes = Mapping[str, tuple[int, ...]]


def check_component(folder: Path, kind: Any, variant: str | None = None) -> None:
    """Check a diffusers model's folder.

    Args:
        folder: With `config.json` and `diffusion_pytorch_model*.safetensors`.
        kind: The model's class.
        variant: Of the weights' file names, such as "fp16".

    Raises:
        FileNotFoundError: If the configuration, the weights or one of their shards is missing.
        ValueError: If a file is cut off, or holds other names or shapes than the model.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder}: expected a diffusers {kind.__name__} (config.json)")
    with torch.device("meta"):
        model = kind.from_config(kind.load_config(folder))
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if found := differences(expected, _stored(_weight_files(folder, variant))):
        raise ValueError(f"{folder}: weights of another model than config.json: {found}")


def _weight_files(folder: Path, variant: str | None) -> list[Path]:
    """The one weights file, or all shards that an index lists."""
    suffix = f".{variant}" if variant else ""
    index = folder / f"diffusion_pytorch_model.safetensors.index{suffix}.json"
    if not index.is_file():
        return [folder / f"diffusion_pytorch_model{suffix}.safetensors"]
    shards = json.loads(index.read_text())["weight_map"].values()
    return [folder / name for name in sorted(set(shards))]


def _stored(files: Iterable[Path]) -> Shapes:
    """Names and shapes in the headers of safetensors files."""
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing: is the download complete?")
        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 - no dictionary
                    shapes[name] = tuple(opened.get_slice(name).get_shape())
        except SafetensorError as error:
            raise ValueError(f"{file} is no whole safetensors file: {error}") from error
    return shapes


def differences(expected: Shapes, stored: Shapes) -> str:
    """What differs between the names and shapes of a model and those of a file; "" if nothing."""
    common = expected.keys() & stored.keys()
    reshaped = [
        f"{name}: {list(stored[name])}, expected {list(expected[name])}"
        for name in common
        if expected[name] != stored[name]
    ]
    kinds = {
        "missing": expected.keys() - common,
        "unknown": stored.keys() - common,
        "of another shape": reshaped,
    }
    found = (f"{len(names)} {kind} ({min(names)})" for kind, names in kinds.items() if names)
    return ", ".join(found)
