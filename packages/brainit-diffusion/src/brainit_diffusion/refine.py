"""Refinement: a pass of SDXL image-to-image over the fused images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

NEGATIVE_PROMPT = "painting, drawing, blurry, deformed, disfigured, glitchy, ugly, bad anatomy"


def load_refiner(
    name: str = "stabilityai/stable-diffusion-xl-base-1.0", dtype: torch.dtype = torch.float16
) -> Any:
    """SDXL's image-to-image pipeline by diffusers: a folder, or a name on the hub (7 GB).

    Needs the extra `refine`.
    """
    from diffusers import StableDiffusionXLImg2ImgPipeline

    return StableDiffusionXLImg2ImgPipeline.from_pretrained(
        name, torch_dtype=dtype, use_safetensors=True
    )


@torch.no_grad()
def refine_images(
    pipeline: Any,
    images: Tensor,
    seeds: Sequence[int],
    steps: int = 25,
    last_steps: int = 9,
    size: int = 768,
    guidance_scale: float = 5.0,
    prompt: str = "",
    negative_prompt: str = NEGATIVE_PROMPT,
    batch_size: int = 4,
) -> Tensor:
    """Enlarge images, run the last steps of SDXL on them (Brain-IT, arXiv 2510.25976).

    Args:
        pipeline: `StableDiffusionXLImg2ImgPipeline`, or what is called like one.
        images: In [0, 1] [B, 3, H, W].
        seeds: One per image.
        steps: Steps of the whole schedule.
        last_steps: How many of them run.
        size: Side of the result in pixels, a multiple of the VAE's factor (8).
        guidance_scale: Classifier-free guidance.
        prompt: Given for every image.
        negative_prompt: Given for every image.
        batch_size: Images at a time.

    Returns:
        Images in [0, 1] [B, 3, size, size], float32 on the CPU.

    Raises:
        ValueError: If the numbers of steps or seeds do not fit.
    """
    if not 1 <= last_steps <= steps:
        raise ValueError(f"last_steps: expected 1 to {steps}, got {last_steps}")
    if len(seeds) != len(images):
        raise ValueError(f"seeds: expected {len(images)}, one per image, got {len(seeds)}")
    enlarged = F.interpolate(
        images.float(), (size, size), mode="bicubic", antialias=True, align_corners=False
    ).clamp(0, 1)
    # Diffusers runs int(steps * strength) steps: half a step more keeps rounding off the edge.
    strength = min(1.0, (last_steps + 0.5) / steps)
    parts = []
    for first in range(0, len(images), batch_size):
        part = enlarged[first : first + batch_size]
        generators = [
            torch.Generator().manual_seed(int(s)) for s in seeds[first : first + batch_size]
        ]
        result = pipeline(
            prompt=[prompt] * len(part),
            negative_prompt=[negative_prompt] * len(part),
            image=part,
            strength=strength,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            generator=generators,
            output_type="pt",
        ).images
        parts.append(result.float().cpu())
    return torch.cat(parts)
