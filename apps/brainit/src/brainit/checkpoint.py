"""Training state on disk: safetensors and JSON, never pickled, replaced only when whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.optim import Optimizer

from brainit.run_folder import replacing


def save_checkpoint(
    path: Path, module: nn.Module, optimiser: Optimizer, state: dict[str, Any]
) -> None:
    """Write trainable parameters, buffers, optimiser moments and a JSON state into one file."""
    tensors = {
        f"model.{name}": value.detach().contiguous() for name, value in _own_state(module).items()
    }
    scalars: dict[str, Any] = {}
    for index, moments in optimiser.state_dict()["state"].items():
        for name, value in moments.items():
            if torch.is_tensor(value):
                tensors[f"optimiser.{index}.{name}"] = value.contiguous()
            else:
                scalars[f"{index}.{name}"] = value
    metadata = {"training": json.dumps({"state": state, "optimiser": scalars})}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata)


def load_checkpoint(
    path: Path, module: nn.Module, optimiser: Optimizer | None = None
) -> dict[str, Any]:
    """Restore what `save_checkpoint` wrote, in place, and return the JSON state.

    Raises:
        KeyError: The file lacks a parameter of the module.
    """
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    training = json.loads(metadata["training"])
    with torch.no_grad():
        for name, value in _own_state(module).items():
            value.copy_(tensors[f"model.{name}"])
    if optimiser is not None:
        moments: dict[int, dict[str, Any]] = {}
        for key, value in [*_below("optimiser.", tensors), *training["optimiser"].items()]:
            index, name = key.split(".", 1)
            moments.setdefault(int(index), {})[name] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})
    state: dict[str, Any] = training["state"]
    return state


def _below(prefix: str, tensors: dict[str, torch.Tensor]) -> list[tuple[str, torch.Tensor]]:
    return [
        (key.removeprefix(prefix), value)
        for key, value in tensors.items()
        if key.startswith(prefix)
    ]


def _own_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """Trainable parameters and buffers: a frozen backbone is known by its name, not stored."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    state = module.state_dict(keep_vars=True)
    return {name: value.detach() for name, value in state.items() if name not in frozen}
