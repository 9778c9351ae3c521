"""Refinement: a pass of SDXL image-to-image over the fused images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from brainit_diffusion.inputs import check_images, check_seeds, seeded
from brainit_diffusion.pixels import resize

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


def lazy_refiner(
    name: str = "stabilityai/stable-diffusion-xl-base-1.0",
    dtype: torch.dtype = torch.float16,
    device: torch.device | str = "cpu",
    **settings: Any,
) -> Callable[[Tensor, Sequence[int]], Tensor]:
    """A refiner for `fuse`, whose pipeline is read when the first image comes.

    Args:
        name: As in `load_refiner`.
        dtype: As in `load_refiner`.
        device: Where it runs.
        **settings: Those of `refine_images`.

    Returns:
        Images and seeds to refined images.
    """
    load = cache(lambda: load_refiner(name, dtype).to(device))
    return lambda images, seeds: refine_images(load(), images, seeds, **settings)


@torch.no_grad()
def refine_images(
    pipeline: Any,
    images: Tensor,
    seeds: Sequence[int],
    steps: int = 25,
    last_steps: int = 9,
    size: int = 768,
    guidance_scale: float = 5.0,
    prompt: str | Sequence[str] = "",
    negative_prompt: str | Sequence[str] = NEGATIVE_PROMPT,
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
        prompt: One for every image, or one for each.
        negative_prompt: Likewise.
        batch_size: Images at a time.

    Returns:
        Images in [0, 1] [B, 3, size, size], float32 on the CPU.

    Raises:
        ValueError: If the numbers of steps, seeds or prompts do not fit, or values leave [0, 1].
    """
    if not 1 <= last_steps <= steps:
        raise ValueError(f"last_steps: expected 1 to {steps}, got {last_steps}")
    check_seeds(seeds, len(images))
    prompts = _one_each("prompt", prompt, len(images))
    negative = _one_each("negative_prompt", negative_prompt, len(images))
    check_images(images)
    enlarged = resize(images.float(), (size, size))
    # Diffusers runs int(steps * strength) steps: half a step more keeps rounding off the edge.
    strength = min(1.0, (last_steps + 0.5) / steps)
    parts = []
    for first in range(0, len(images), batch_size):
        rows = slice(first, first + batch_size)
        result = pipeline(
            prompt=prompts[rows],
            negative_prompt=negative[rows],
            image=enlarged[rows],
            strength=strength,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            generator=seeded(seeds[rows]),
            output_type="pt",
        ).images
        parts.append(result.float().cpu())
    return torch.cat(parts)


def _one_each(name: str, prompt: str | Sequence[str], count: int) -> list[str]:
    prompts = [prompt] * count if isinstance(prompt, str) else list(prompt)
    if len(prompts) != count:
        raise ValueError(f"{name}: expected {count}, one per image, got {len(prompts)}")
    return prompts
