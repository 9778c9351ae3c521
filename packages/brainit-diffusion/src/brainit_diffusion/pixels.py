"""Images in [0, 1] in another size."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images in [0, 1] [B, 3, H, W] of a height and width (bicubic, antialiased, clamped)."""
    if images.shape[-2:] == size:
        return images
    resized = F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(0, 1)
