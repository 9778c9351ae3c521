"""Precisions by the names that profiles give them."""

from __future__ import annotations

import torch

PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: str) -> torch.autocast:
    """Autocast of the computing device in a profile's precision; "no" leaves float32 alone.

    Its cache of cast weights belongs to the whole process and is emptied by whichever thread leaves
    first, which changes the rounding of the gradients of another: it is off.

    Raises:
        KeyError: An unknown precision.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = PRECISIONS[precision]
    return torch.autocast(device, dtype, enabled=dtype != torch.float32, cache_enabled=False)
