"""What the operations ask before they send a tensor to a Triton kernel."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor


@lru_cache(maxsize=1)
def _triton_installed() -> bool:
    return find_spec("triton") is not None


def takes_kernels(tensor: Tensor) -> bool:
    """Whether Triton computes this GPU tensor; plain torch takes other types than fp32."""
    return tensor.dtype == torch.float32 and _triton_installed()


def dot_precision() -> str:
    """Triton's name for the precision that torch is set to in fp32 matrix products on a GPU."""
    tf32 = torch.version.hip is None and torch.backends.cuda.matmul.fp32_precision == "tf32"
    return "tf32" if tf32 else "ieee"
