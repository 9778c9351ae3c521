"""Images to latents and back, by a diffusers VAE."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def encode_images(vae: Any, images: Tensor) -> Tensor:
    """Latents of images in [0, 1] [B, 3, H, W]: the mode times the scaling factor, float32."""
    with _out_of_float16(vae):
        latents: Tensor = vae.encode((2 * images - 1).to(vae.dtype)).latent_dist.mode()
    return latents.float() * float(vae.config.scaling_factor)


@torch.no_grad()
def decode_latents(vae: Any, latents: Tensor, contrast: float = 1.0) -> Tensor:
    """Images in [0, 1] [B, 3, H, W] float32, their contrast scaled around mid-grey."""
    with _out_of_float16(vae):
        images: Tensor = vae.decode((latents / vae.config.scaling_factor).to(vae.dtype)).sample
    return (0.5 + 0.5 * contrast * images.float()).clamp(0, 1)


@contextmanager
def _out_of_float16(vae: Any) -> Iterator[None]:
    """SDXL's VAE overflows in float16 (its config says `force_upcast`): float32 for a while."""
    upcast = vae.dtype == torch.float16 and vae.config.force_upcast
    if upcast:
        vae.to(torch.float32)
    try:
        yield
    finally:
        if upcast:
            vae.to(torch.float16)
