"""Training state on disk: safetensors and JSON, never pickled.

A checkpoint is written beside its name and then renamed: it is the old one or the new one, whole.
What a disk does to it afterwards is found by its hash when it is read; then the one before serves.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from brainit import hashed_file, processes
from brainit.run_folder import replacing
from brainit.sharding import as_part, for_first, local, part_of

LAST, PREVIOUS, BEST = "last.safetensors", "previous.safetensors", "best.safetensors"
DAMAGED = "damaged.safetensors"
COUNT = "step"
"""What an optimiser keeps of a parameter that has not the parameter's shape."""
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK)


class CheckpointError(RuntimeError):
    """A checkpoint that cannot serve; the message says why and what to do."""


def save_checkpoint(
    path: Path, module: nn.Module, optimiser: Optimizer | None, state: Mapping[str, Any]
) -> None:
    """Write trainable parameters, buffers, optimiser moments and a JSON state into one file.

    A `last.safetensors` that is replaced stays beside it as `previous.safetensors`. The first
    process writes; where weights are sharded it gathers them, and all must call.

    Raises:
        OSError: The file cannot be written; what was there before still is.
    """
    tensors = {f"model.{name}": value for name, value in _own_state(module).items()}
    scalars: dict[str, Any] = {}
    moments = optimiser.state_dict()["state"] if optimiser is not None else {}
    trained = _trained(module)
    for index, values in moments.items():
        for name, value in values.items():
            if torch.is_tensor(value):
                cut = value if name == COUNT else as_part(value, trained[index])
                tensors[f"optimiser.{index}.{name}"] = cut
            else:
                scalars[f"{index}.{name}"] = value
    tensors = for_first(tensors)
    if not processes.is_first():
        return
    training = json.dumps({"state": dict(state), "optimiser": scalars})
    with replacing(path) as temporary:
        hashed_file.write(temporary, tensors, {"training": training})
        if path.name == LAST and path.exists():
            _keep(path, path.with_name(PREVIOUS))


def check_room(folder: Path, module: nn.Module, moments: int) -> None:
    """Make sure, before the first step, that the disk holds all checkpoints of a training.

    While one is saved there are three of weights and moments (the last, the one before and the new
    one) and two of the best weights.

    Args:
        folder: Where they are kept, there or not.
        module: What is trained.
        moments: Tensors that the optimiser keeps of each parameter.

    Raises:
        CheckpointError: It does not; the message says what is needed and what is free.
    """
    weights = _bytes(_own_state(module).values())
    trained = _bytes(_trained(module))
    files = [path for name in (LAST, PREVIOUS, BEST) if (path := folder / name).is_file()]
    # What is there makes room when it is replaced; two names of one file take its place once.
    there = {stat.st_ino: stat.st_size for stat in map(Path.stat, files)}
    need = 5 * weights + 3 * moments * trained - sum(there.values())
    place = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    if (free := shutil.disk_usage(place).free) < need:
        raise CheckpointError(
            f"{folder}: checkpoints need {need / 1e6:,.1f} MB and {free / 1e6:,.1f} MB are free; "
            "free some space and repeat"
        )


def load_checkpoint(
    path: Path, module: nn.Module, optimiser: Optimizer | None = None
) -> dict[str, Any]:
    """Restore what `save_checkpoint` wrote, in place, and return the JSON state.

    Raises:
        CheckpointError: The file is damaged, or one of another model.
        FileNotFoundError: There is none.
    """
    if not hashed_file.is_whole(path):
        raise CheckpointError(
            f"{path}: damaged: its content does not match its hash; delete {path.parent} to train "
            "anew"
        )
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    training = json.loads(metadata["training"])
    own = _own_state(module)
    _check_shapes(path, own, _below("model.", tensors))
    with torch.no_grad():
        for name, value in own.items():
            local(value).copy_(part_of(tensors[f"model.{name}"], value))
    if optimiser is not None:
        moments: dict[int, dict[str, Any]] = {}
        trained = _trained(module)
        for key, value in (_below("optimiser.", tensors) | training["optimiser"]).items():
            index, name = key.split(".", 1)
            kept = value if name == COUNT else part_of(value, trained[int(index)])
            moments.setdefault(int(index), {})[name] = kept
        optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})
    state: dict[str, Any] = training["state"]
    return state


def newest(folder: Path) -> Path | None:
    """The last checkpoint of a training or, if that is damaged or gone, the one before.

    A damaged one is put aside as `damaged.safetensors`.

    Warns:
        RuntimeWarning: The one before serves.

    Raises:
        CheckpointError: Checkpoints were written, but none is whole.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    if last.is_file() and hashed_file.is_whole(last):
        return last
    fault = "damaged" if last.is_file() else "missing"
    if not previous.is_file() and fault == "missing":
        return None
    if not previous.is_file() or not hashed_file.is_whole(previous):
        raise CheckpointError(
            f"{last}: {fault}, and no whole one is before it; delete {folder} to train anew"
        )
    if fault == "damaged":
        os.replace(last, folder / DAMAGED)
    warnings.warn(
        f"{last}: {fault}; the training goes on from the checkpoint before it",
        RuntimeWarning,
        stacklevel=2,
    )
    return previous


def clean(folder: Path) -> None:
    """Remove what killed processes have left half written."""
    for path in folder.glob(".*.safetensors.*"):
        path.unlink()


def _keep(path: Path, name: Path) -> None:
    """Give a file a second name, or a copy where a file system has no second names."""
    temporary = name.with_name(f".{name.name}.second")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(path, temporary)
    os.replace(temporary, name)


def _check_shapes(path: Path, own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    for name in {**own, **found}:
        here, there = (list(one[name].shape) if name in one else None for one in (own, found))
        if here != there:
            raise CheckpointError(
                f"{path}: a checkpoint of another model: {name} has shape {there} there and {here} "
                f"here; delete {path.parent} to train anew"
            )


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


def _own_state(module: nn.Module) -> dict[str, Tensor]:
    """Trainable parameters and buffers: a frozen backbone is known by its name, not stored."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    state = module.state_dict(keep_vars=True)
    return {name: value.detach() for name, value in state.items() if name not in frozen}
