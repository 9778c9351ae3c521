"""The training objective of the unCLIP UNet: denoising a latent, given CLIP tokens."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from brainit_diffusion.schedule import sigma_table
from brainit_diffusion.unet import added_conditions


def vector_condition(
    batch: int,
    original_size: tuple[int, int],
    crop: tuple[int, int] = (0, 0),
    device: torch.device | str | None = None,
) -> Tensor:
    """The vector condition of a batch: SDXL's size and crop conditioning (arXiv 2307.01952).

    Args:
        batch: Number of images, B.
        original_size: Height and width in pixels before any resizing.
        crop: Top and left of the crop in pixels.
        device: Where to put it.

    Returns:
        Height, width, top, left [B, 4] float32.
    """
    return torch.tensor([*original_size, *crop], dtype=torch.float32, device=device).repeat(
        batch, 1
    )


def denoising_loss(
    unet: Any,
    latents: Tensor,
    tokens: Tensor,
    time_ids: Tensor,
    generator: torch.Generator,
    noise_offset: float = 0.04,
    dropout: float = 0.0,
    prediction_type: str = "epsilon",
    unconditional: Tensor | None = None,
) -> Tensor:
    """Mean squared error of the prediction at one random timestep per image.

    The network predicts the noise, with its offset: `normal + noise_offset * normal per image and
    channel`. Or it predicts v = (noise - sigma * latent) / sqrt(1 + sigma^2) (Salimans and Ho,
    arXiv 2202.00512): the squared error of the noise that follows from it, times 1 + sigma^2, so
    that high noise counts, where the noise is plain to see and the image is not.

    For classifier-free guidance the tokens of some images are replaced, by random-normal ones or by
    learned ones. Gradients flow to the UNet, to `tokens` and to those (the second stage of
    Brain-IT, arXiv 2510.25976).

    Args:
        unet: `UNet2DConditionModel` with the "text_time" condition, or what is called like one.
        latents: Clean latents times the VAE's scaling factor [B, C, h, w].
        tokens: CLIP tokens [B, T, W].
        time_ids: Vector condition [B, 4].
        generator: All randomness comes from it, drawn on its own device.
        noise_offset: Standard deviation of the offset.
        dropout: Probability that an image's tokens are replaced.
        prediction_type: "epsilon" or "v_prediction", as in the sampling's scheduler.
        unconditional: What replaces the tokens [B, T, W]; random-normal values if None.

    Returns:
        Scalar.

    Raises:
        ValueError: If the batches differ in length, or the prediction type is neither.
    """
    batch = len(latents)
    if len(tokens) != batch or time_ids.shape != (batch, 4):
        raise ValueError(
            f"denoising_loss: {batch} latents, tokens {tuple(tokens.shape)} and time_ids "
            f"{tuple(time_ids.shape)}; expected [{batch}, T, W] and [{batch}, 4]"
        )
    if prediction_type not in ("epsilon", "v_prediction"):
        raise ValueError(f"prediction_type {prediction_type!r}: expected epsilon or v_prediction")
    noise = _normal(latents.shape, generator, latents)
    noise = noise + noise_offset * _normal(latents.shape[:2], generator, latents)[..., None, None]
    sigmas = sigma_table()
    steps = torch.randint(len(sigmas), (batch,), generator=generator, device=generator.device)
    sigma = sigmas[steps.cpu()].to(latents)[:, None, None, None]
    if dropout:
        tokens = _drop(tokens, dropout, generator, unconditional)
    scale = torch.sqrt(1 + sigma**2)
    noisy = (latents + sigma * noise) / scale
    target = noise if prediction_type == "epsilon" else (noise - sigma * latents) / scale
    predicted = unet(
        noisy,
        steps.to(latents.device),
        encoder_hidden_states=tokens,
        added_cond_kwargs=added_conditions(time_ids),
        return_dict=False,
    )[0]
    return F.mse_loss(cast(Tensor, predicted).float(), target.float())


def _drop(
    tokens: Tensor, probability: float, generator: torch.Generator, by: Tensor | None
) -> Tensor:
    """Replace the tokens of each image with some probability."""
    dropped = torch.rand(len(tokens), generator=generator, device=generator.device) < probability
    instead = _normal(tokens.shape, generator, tokens) if by is None else by.to(tokens)
    return torch.where(dropped[:, None, None].to(tokens.device), instead, tokens)


def _normal(shape: torch.Size, generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device).to(like)
