"""Where the app computes, and in which precision, by the names that profiles give them."""

from __future__ import annotations

import torch

PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def device() -> torch.device:
    """The GPU, if torch has one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(precision: str) -> torch.autocast:
    """Autocast of the computing device in a profile's precision; "no" leaves float32 alone.

    Its cache of cast weights belongs to the whole process and is emptied by whichever thread leaves
    first, which changes the rounding of the gradients of another: it is off.

    Raises:
        KeyError: An unknown precision.
    """
    dtype = PRECISIONS[precision]
    return torch.autocast(device().type, dtype, enabled=dtype != torch.float32, cache_enabled=False)
