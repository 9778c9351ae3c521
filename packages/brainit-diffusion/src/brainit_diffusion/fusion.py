"""Fusing the branches: the semantic model finishes what the low-level image starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from brainit_diffusion.unclip import UnCLIP

Refiner = Callable[[Tensor, Sequence[int]], Tensor]


@dataclass(frozen=True)
class Fusion:
    """A fusion with its intermediates; images in [0, 1], float32 on the CPU.

    Attributes:
        coarse: The VAE's copy of the coarse images, all that the start can hold [B, 3, S, S].
        fused: What the semantic model made of them [B, 3, S, S].
        images: The final images: refined ones if there is a refiner, else `fused`.
    """

    coarse: Tensor
    fused: Tensor
    images: Tensor


def fuse(
    unclip: UnCLIP,
    tokens: Tensor,
    coarse: Tensor,
    start_step: int = 14,
    steps: int = 38,
    guidance_scale: float = 5.0,
    noise_offset: float = 0.04,
    contrast: float = 0.8,
    *,
    seeds: Sequence[int],
    refiner: Refiner | None = None,
    batch_size: int = 32,
    dtype: torch.dtype = torch.float32,
    progress: bool = False,
) -> Fusion:
    """Reconstruct images from both branches of Brain-IT (arXiv 2510.25976).

    The coarse image's latents get the noise of `start_step`, the unCLIP model denoises from there
    under the tokens, and the contrast is pulled towards mid-grey.

    Args:
        unclip: The model.
        tokens: Predicted CLIP tokens [B, T, W].
        coarse: Images of the low-level branch in [0, 1] [B, 3, H, W].
        start_step: Step of `steps` to start from: a later one keeps more of the coarse image.
        steps: Euler steps of the whole schedule.
        guidance_scale: Classifier-free guidance.
        noise_offset: Offset of the start noise.
        contrast: Factor on the distance from mid-grey.
        seeds: One per image.
        refiner: Takes images and seeds; `functools.partial(refine_images, pipeline)` for SDXL.
        batch_size: Images sampled at a time.
        dtype: Computing type, by autocast.
        progress: Show bars.

    Returns:
        Final and intermediate images.

    Raises:
        ValueError: If shapes, ranges or the number of seeds do not fit.
    """

    def run(first: int, contrast: float) -> Tensor:
        return unclip.generate(
            tokens,
            coarse,
            first,
            steps,
            guidance_scale,
            noise_offset,
            contrast,
            seeds=seeds,
            batch_size=batch_size,
            dtype=dtype,
            progress=progress,
        )

    fused = run(start_step, contrast)
    images = fused if refiner is None else refiner(fused, seeds)
    return Fusion(run(steps, 1.0), fused, images)
