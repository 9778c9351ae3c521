"""Sampling latents: start noise from per-image seeds, and classifier-free guided denoising."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from brainit_diffusion.unet import added_conditions


def draw_start(
    seeds: Sequence[int],
    latent_shape: tuple[int, ...],
    token_shape: tuple[int, ...],
    noise_offset: float,
) -> tuple[Tensor, Tensor]:
    """Everything random in a sampling, each image's from its own seed.

    An image's draws do not depend on its batch, on the device or on the number of steps.

    Args:
        seeds: One seed per image, B of them.
        latent_shape: Channels, height, width of a latent.
        token_shape: Number and width of the tokens.
        noise_offset: Standard deviation of the noise's offset per image and channel.

    Returns:
        Noise [B, C, h, w] and random-normal unconditional tokens [B, T, W], float32 on the CPU.
    """
    noises, unconditional = [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(int(seed))
        noise = torch.randn(latent_shape, generator=generator)
        offset = torch.randn(latent_shape[0], 1, 1, generator=generator)
        noises.append(noise + noise_offset * offset)
        unconditional.append(torch.randn(token_shape, generator=generator))
    return torch.stack(noises), torch.stack(unconditional)


def sample(
    unet: Any,
    scheduler: Any,
    latents: Tensor,
    tokens: Tensor,
    unconditional: Tensor,
    time_ids: Tensor,
    guidance_scale: float,
    start_step: int = 0,
    progress: bool = False,
) -> Tensor:
    """Denoise latents from `start_step` to the end; the guidance takes one forward pass a step.

    Args:
        unet: Predicts what the scheduler expects; called like `UNet2DConditionModel`.
        scheduler: A diffusers scheduler whose timesteps are set.
        latents: Noisy latents on the scheduler's scale at that step [B, C, h, w].
        tokens: CLIP tokens [B, T, W].
        unconditional: Tokens of the other side of the guidance [B, T, W].
        time_ids: Vector condition [B, 4].
        guidance_scale: 1 is the conditional model alone, which then runs by itself.
        start_step: First step to run; with the number of steps nothing runs.
        progress: Show a bar.

    Returns:
        Clean latents [B, C, h, w], float32.
    """
    guided = guidance_scale != 1
    context = torch.cat([unconditional, tokens]) if guided else tokens
    conditions = added_conditions(time_ids.repeat(2, 1) if guided else time_ids)
    scheduler.set_begin_index(start_step)
    latents = latents.float()
    for step in tqdm(scheduler.timesteps[start_step:], disable=not progress, leave=False):
        x = scheduler.scale_model_input(latents, step)
        noise = unet(
            x.repeat(2, 1, 1, 1) if guided else x,
            step,
            encoder_hidden_states=context,
            added_cond_kwargs=conditions,
            return_dict=False,
        )[0].float()
        # In float32: the scheduler rounds the latents to the type of the predicted noise.
        if guided:
            without, with_tokens = noise.chunk(2)
            noise = torch.lerp(without, with_tokens, guidance_scale)
        latents = scheduler.step(noise, step, latents, return_dict=False)[0]
    return latents
