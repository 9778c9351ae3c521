"""Number formats that a device multiplies itself."""

from __future__ import annotations

import torch

INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")
"""What torch calls a processor's instructions for bfloat16, of Intel, AMD and Arm."""


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for products of bfloat16.

    Without them torch emulates: on a CPU a product takes ten to a hundred times as long as in
    float32.
    """
    if device.type == "cpu":
        return torch.backends.mkldnn.is_available() and _processor_has_it()
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return True


def _processor_has_it() -> bool:
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return any(found.get(name, False) for name in INSTRUCTIONS)
    # Before that there is only what oneDNN, which multiplies for torch, offers to do.
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
