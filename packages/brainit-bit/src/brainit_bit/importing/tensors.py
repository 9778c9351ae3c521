"""Tensors as views of storages, every number checked first."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from brainit_bit.importing.inert import Name, kind_of, refuse

MAX_DIMENSIONS = 16

DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Storage:
    """Numbers in a row, which tensors are views of.

    Attributes:
        values: [numel].
    """

    def __init__(self, values: Tensor) -> None:
        self.values = values


def storage_fields(identity: object) -> tuple[str, torch.dtype, int]:
    """Key, dtype and number of elements of a persistent id ("storage", type, key, device, numel).

    Files of the older format hold a sixth field, None for a storage that is no view of another.
    """
    if type(identity) is not tuple or len(identity) not in (5, 6):
        refuse(f"a persistent id that names no storage: {kind_of(identity)}")
    what, kind, key, device, numel, *view = identity
    if type(what) is not str or what != "storage":
        refuse("a persistent id that names no storage")
    if not isinstance(kind, Name) or kind.module != "torch" or kind.name not in DTYPES:
        refuse(f"a storage of unknown type {kind if isinstance(kind, Name) else kind_of(kind)}")
    if type(key) is not str or not (key.isascii() and key.isdigit() and len(key) <= 20):
        refuse("a storage whose key is not a number")
    if type(device) is not str or any(one is not None for one in view):
        refuse(f"storage {key}: expected a device name and no view")
    if not _is_size(numel):
        refuse(f"storage {key}: its number of elements is no integer >= 0")
    return key, DTYPES[kind.name], numel


def rebuild_tensor(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any,
    hooks: Any,
    metadata: Any = None,
) -> Tensor:
    """What `torch._utils._rebuild_tensor_v2` builds, as a view inside the storage."""
    if not isinstance(storage, Storage):
        refuse(f"a tensor over a {kind_of(storage)} in place of a storage")
    if type(requires_grad) is not bool or not is_empty(hooks) or not is_empty(metadata):
        refuse("a tensor with hooks or metadata")
    if type(size) is not tuple or type(stride) is not tuple or len(size) != len(stride):
        refuse("a tensor whose sizes and strides do not match")
    if len(size) > MAX_DIMENSIONS or not all(map(_is_size, (offset, *size, *stride))):
        refuse(
            f"a tensor of more than {MAX_DIMENSIONS} axes, or with numbers below 0 in its layout"
        )
    available, numel = len(storage.values), math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    end = last + 1 if numel else offset
    # A view may not repeat elements: copies of it would outgrow the file.
    if end > available or numel > available:
        refuse(f"a tensor of {numel} elements up to {end} in a storage of {available}")
    return storage.values.as_strided(size, stride, offset)


def is_empty(value: object) -> bool:
    """Whether there are no hooks, no metadata: None or a dict with nothing in it."""
    return value is None or (isinstance(value, dict) and not value)


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63
