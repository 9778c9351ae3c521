"""The two acts of a sampling: drawing what is random, and the guided prediction of one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from brainit_diffusion.unet import added_conditions


def draw_start(
    generators: Sequence[torch.Generator | None],
    latent_shape: tuple[int, ...],
    token_shape: tuple[int, ...],
    noise_offset: float,
) -> tuple[Tensor, Tensor]:
    """Everything random in a sampling, each image's from its own generator.

    An image's draws do not depend on its batch, on the device that computes or on the number of
    steps.

    Args:
        generators: One per image, B of them, drawn from on their own devices; None is torch's
            global one.
        latent_shape: Channels, height, width of a latent.
        token_shape: Number and width of the tokens.
        noise_offset: Standard deviation of the noise's offset per image and channel.

    Returns:
        Noise [B, C, h, w] and random-normal unconditional tokens [B, T, W], float32 on the CPU.
    """
    noises, unconditional = [], []
    for generator in generators:
        noise = _normal(latent_shape, generator)
        offset = _normal((latent_shape[0], 1, 1), generator)
        noises.append(noise + noise_offset * offset)
        unconditional.append(_normal(token_shape, generator))
    return torch.stack(noises), torch.stack(unconditional)


def guided_prediction(
    unet: Any,
    noisy: Tensor,
    timestep: Tensor,
    tokens: Tensor,
    unconditional: Tensor,
    time_ids: Tensor,
    guidance_scale: float,
) -> Tensor:
    """What the UNet predicts, under classifier-free guidance: one forward pass for both sides.

    Args:
        unet: Called like `UNet2DConditionModel`; computes in its own type.
        noisy: Noisy latents of unit variance [B, C, h, w].
        timestep: Scalar.
        tokens: CLIP tokens [B, T, W].
        unconditional: Tokens of the other side [B, T, W].
        time_ids: Vector condition [B, 4].
        guidance_scale: 1 is the conditional model alone, which then runs by itself.

    Returns:
        `without + guidance_scale * (with - without)` [B, C, h, w], float32: schedulers round
        latents to the type of the prediction.
    """
    guided = guidance_scale != 1
    context = torch.cat([unconditional, tokens]) if guided else tokens
    predicted: Tensor = unet(
        (noisy.repeat(2, 1, 1, 1) if guided else noisy).to(unet.dtype),
        timestep,
        encoder_hidden_states=context.to(unet.dtype),
        added_cond_kwargs=added_conditions(time_ids.repeat(2, 1) if guided else time_ids),
        return_dict=False,
    )[0].float()
    if not guided:
        return predicted
    without, with_tokens = predicted.chunk(2)
    return torch.lerp(without, with_tokens, guidance_scale)


def _normal(shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    device = "cpu" if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=device).cpu()
