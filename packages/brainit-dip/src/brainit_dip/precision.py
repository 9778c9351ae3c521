"""Number formats that a device multiplies itself."""

from __future__ import annotations

import torch


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for products of bfloat16.

    Without them torch emulates: on a CPU a product takes ten to a hundred times as long as in
    float32.
    """
    if device.type == "cpu":
        # oneDNN, which multiplies matrices for torch on a CPU, is asked for its own view.
        built = torch.backends.mkldnn.is_available()
        return built and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return True
