"""Where the app computes, and in which precision, by the names that profiles give them."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from brainit_dip import multiplies_bfloat16

PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def device() -> torch.device:
    """The GPU, if torch has one, else the CPU; each of several processes has its own GPU.

    Raises:
        RuntimeError: More processes were launched on this machine than it has GPUs.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    place = os.environ.get("LOCAL_RANK")
    if place is None:
        return torch.device("cuda")
    if int(place) >= torch.cuda.device_count():
        raise RuntimeError(
            f"process {int(place) + 1} of this machine has no GPU of its own: torch sees "
            f"{torch.cuda.device_count()}; launch as many processes as there are GPUs"
        )
    return torch.device("cuda", int(place))


def host_memory(*shape: int, dtype: torch.dtype) -> Tensor:
    """An empty tensor of the host, pinned where there is a GPU."""
    return torch.empty(shape, dtype=dtype, pin_memory=device().type == "cuda")


def pinned(tensor: Tensor) -> Tensor:
    """A tensor of the host that can go to the GPU while others compute; itself without a GPU."""
    return tensor.pin_memory() if device().type == "cuda" else tensor


def sent(tensor: Tensor) -> Tensor:
    """A tensor on the computing device; of a pinned one the copy is not waited for."""
    return tensor.to(device(), non_blocking=True)


def computing_type(precision: str) -> torch.dtype:
    """What a profile's precision is on this device.

    "auto" is bfloat16 where the device has instructions for it, else float32.

    Raises:
        KeyError: An unknown precision.
    """
    if precision == "auto":
        return torch.bfloat16 if multiplies_bfloat16(device()) else torch.float32
    return PRECISIONS[precision]


def autocast(precision: str) -> torch.autocast:
    """Autocast of the computing device in a profile's precision; float32 is left alone.

    Its cache of cast weights belongs to the whole process and is emptied by whichever thread leaves
    first, which changes the rounding of the gradients of another: it is off.

    Raises:
        KeyError: An unknown precision.
    """
    dtype = computing_type(precision)
    return torch.autocast(device().type, dtype, enabled=dtype != torch.float32, cache_enabled=False)
