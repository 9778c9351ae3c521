"""The reference implementation's decoder as a Brain Interaction Transformer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from brainit_bit.importing.inert import Record
from brainit_bit.importing.modules import NamedParts
from brainit_bit.importing.reader import read_checkpoint
from brainit_bit.model import BITConfig, BrainInteractionTransformer

TABLE = "voxel_embed"
MAX_ROUNDS = 100
# Constant inside a cluster, so the softmax drops it.
DROPPED = "conv_centers.lin_key.bias"

_TOP = {
    "centers": "tokenizer.centres",
    "pred_tokens": "query_tokens",
    "conv_centers.lin_query": "tokenizer.query",
    "conv_centers.lin_key": "tokenizer.key",
    "conv_centers.lin_value": "tokenizer.value",
    "conv_centers.lin_skip": "tokenizer.skip",
    "norm_centers": "tokenizer.norm",
    "proj": "cross_transformer.projection",
}
_BLOCK = {
    "norm1": "norm",
    "attn.qkv": "qkv",
    "attn.kv": "key_value",
    "attn.proj": "projection",
    "norm2": "mlp.0",
    "mlp.fc1": "mlp.1",
    "mlp.fc2": "mlp.3",
}
_BLOCK_LISTS = {"blocks": "blocks", "block_crosses": "cross_blocks"}


def import_reference_checkpoint(
    path: str | Path, subjects: Mapping[str, ArrayLike], n_heads: int = 8
) -> BrainInteractionTransformer:
    """Load a decoder that the reference implementation of Brain-IT (arXiv 2510.25976) saved.

    Nothing in the file is run: see `read_checkpoint`. The file may hold the whole module or its
    state dict, alone or inside a training checkpoint. Weights become float32. Tensors of integers
    are tables of indices and are left out; any other tensor without a place here is an error. A
    whole module also tells its heads, norms and activation, which must be those of this model.

    Args:
        path: A file of `torch.save`.
        subjects: Cluster of every voxel, integers [N_s], of all subjects in the order in which
            their voxels lie in the file's one table; the names are the user's choice.
        n_heads: Attention heads, which a state dict does not tell.

    Returns:
        The model with all subjects, on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        UnsafeCheckpoint: If the file is damaged or holds more than data.
        ValueError: If it is another model, or its voxels are not those of `subjects`.
    """
    checkpoint = read_checkpoint(path)
    try:
        parts = NamedParts(checkpoint)
        numbers = {name: one for name, one in parts.tensors.items() if one.is_floating_point()}
        prefix = _prefix(numbers)
        tensors = {
            name.removeprefix(prefix): tensor
            for name, tensor in numbers.items()
            if name.startswith(prefix)
        }
        for name, module in parts.modules.items():
            if name.startswith(prefix):
                _check_settings(name.removeprefix(prefix), module, n_heads)
        return _build(tensors, subjects, n_heads)
    except ValueError as error:
        raise type(error)(f"{path}: {error}") from error


def _prefix(tensors: Mapping[str, Tensor]) -> str:
    found = [name.removesuffix(TABLE) for name in tensors if f".{name}".endswith(f".{TABLE}")]
    if len(found) != 1:
        raise ValueError(f"expected one decoder with a tensor {TABLE!r}, found {len(found)}")
    return found[0]


def _check_settings(name: str, module: Record, n_heads: int) -> None:
    """Whole modules tell what a state dict cannot: what is computed with the weights."""
    state, last = module.attributes(), name.rpartition(".")[2]
    settings: dict[str, tuple[Any, Any]] = {}
    if last == "attn":
        settings["heads"] = state.get("num_heads", n_heads), n_heads
    if last in ("norm1", "norm2", "norm_centers"):
        settings["class"] = module.kind.name, "LayerNorm"
        settings["eps"] = state.get("eps"), 1e-5
    if last == "act":
        settings["class"] = module.kind.name, "GELU"
        settings["approximation"] = state.get("approximate", "none"), "none"
    for setting, (there, here) in settings.items():
        if there != here:
            raise ValueError(f"{name}: its {setting} is {there!r}, expected {here!r}")


def _build(
    tensors: dict[str, Tensor], subjects: Mapping[str, ArrayLike], n_heads: int
) -> BrainInteractionTransformer:
    table = tensors.pop(TABLE)
    tensors.pop(DROPPED, None)
    if table.ndim != 2:
        raise ValueError(f"{TABLE}: expected [N, D], got {list(table.shape)}")
    state = {_our_name(name): tensor for name, tensor in tensors.items()}
    with torch.device("meta"):  # no memory before the sizes are known to fit the file
        model = BrainInteractionTransformer(_config(state, n_heads))
    _check_tensors({**state, TABLE: table}, model, [len(table), model.config.dim])
    model.to_empty(device="cpu")
    model.load_state_dict(state)
    _add_subjects(model, table, subjects)
    return model


def _our_name(name: str) -> str:
    layer, _, last = name.rpartition(".")
    words = layer.split(".", 2)
    if name in _TOP:
        return _TOP[name]
    if layer in _TOP:
        return f"{_TOP[layer]}.{last}"
    if len(words) == 3 and words[0] in _BLOCK_LISTS and words[2] in _BLOCK:
        blocks = _BLOCK_LISTS[words[0]]
        return f"cross_transformer.{blocks}.{words[1]}.{_BLOCK[words[2]]}.{last}"
    raise ValueError(f"a tensor that this model has no place for: {ascii(name)[:80]}")


def _config(state: Mapping[str, Tensor], n_heads: int) -> BITConfig:
    def size(name: str, axis: int) -> int:
        if name not in state or state[name].ndim != 2 or not state[name].numel():
            raise ValueError(f"expected a matrix for {name}")
        return state[name].shape[axis]

    dim = size("query_tokens", 1)
    blocks = {name.split(".")[2] for name in state if name.startswith("cross_transformer.blocks.")}
    if len(blocks) > MAX_ROUNDS:
        raise ValueError(f"more than {MAX_ROUNDS} blocks")
    return BITConfig(
        n_clusters=size("tokenizer.centres", 0),
        dim=dim,
        n_heads=n_heads,
        n_rounds=len(blocks),
        mlp_ratio=size("cross_transformer.cross_blocks.0.mlp.1.weight", 0) // max(dim, 1),
        n_query_tokens=size("query_tokens", 0),
        output_dim=size("cross_transformer.projection.weight", 0),
    )


def _check_tensors(tensors: Mapping[str, Tensor], model: nn.Module, table: list[int]) -> None:
    """Names, shapes and values; and that together they are no larger than what the file holds."""
    expected = {name: list(value.shape) for name, value in model.state_dict().items()}
    expected[TABLE] = table
    if missing := sorted(expected.keys() - tensors.keys()):
        raise ValueError(f"{len(missing)} tensors are missing, the first is {missing[0]}")
    for name, tensor in tensors.items():
        if list(tensor.shape) != expected.get(name):
            raise ValueError(f"{name}: expected {expected.get(name)}, got {list(tensor.shape)}")
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name}: holds NaN or infinity")
    storages = {tensor.untyped_storage().data_ptr(): tensor for tensor in tensors.values()}
    stored = sum(one.untyped_storage().nbytes() // one.itemsize for one in storages.values())
    if sum(tensor.numel() for tensor in tensors.values()) > stored:
        raise ValueError("its tensors share memory, which those of a decoder do not")


def _add_subjects(
    model: BrainInteractionTransformer, table: Tensor, subjects: Mapping[str, ArrayLike]
) -> None:
    sizes = [np.asarray(labels).size for labels in subjects.values()]
    if sum(sizes) != len(table):
        raise ValueError(
            f"expected labels of {len(table)} voxels, one a row of {TABLE}, "
            f"got {sum(sizes)} of {len(sizes)} subjects"
        )
    for (name, labels), rows in zip(subjects.items(), table.split(sizes), strict=True):
        model.add_subject(name, labels, rows)
