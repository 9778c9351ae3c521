"""What a pipeline is built from and called with: one clear error for what does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator] | None


def check_components(vae: Any, unet: Any, learned: Any) -> None:
    """Check that VAE, UNet and learned unconditional tokens, if any, make one unCLIP model.

    Raises:
        ValueError: If they do not.
    """
    config = unet.config
    if config.addition_embed_type != "text_time" or (
        config.projection_class_embeddings_input_dim != 4 * config.addition_time_embed_dim
    ):
        raise ValueError(
            "unet: expected an unCLIP UNet, its vector condition original size and crop alone "
            f"('text_time', 4 x {config.addition_time_embed_dim}); got "
            f"{config.addition_embed_type!r}, {config.projection_class_embeddings_input_dim}"
        )
    if config.in_channels != vae.config.latent_channels:
        raise ValueError(
            f"unet: expected latents of {vae.config.latent_channels} channels as the VAE's, "
            f"got {config.in_channels}"
        )
    if learned is not None:
        check_learned(learned, unet)


def check_learned(learned: Any, unet: Any) -> None:
    """Check that learned unconditional tokens fit a UNet.

    Raises:
        ValueError: If they are of another width.
    """
    width = unet.config.cross_attention_dim
    if learned.config.width != width:
        raise ValueError(
            f"unconditional_tokens: expected width {width}, got {learned.config.width}"
        )


def check_tokens(tokens: Tensor, width: int) -> None:
    """Check CLIP tokens [B, T, width], all finite.

    Raises:
        ValueError: If their shape is another, or a value is NaN or infinite.
    """
    check_width(tokens, width)
    # NaN and infinity are what the largest magnitude is then; to look at each value is far slower.
    finite = tokens.abs().amax((1, 2)).isfinite()
    if not finite.all():
        row = int((~finite).nonzero()[0])
        raise ValueError(f"tokens: expected finite values, got NaN or infinity in set {row}")


def check_width(tokens: Tensor, width: int) -> None:
    """Check the shape of CLIP tokens [B, T, width], of which a training needs no more.

    Raises:
        ValueError: If it is another.
    """
    if tokens.ndim != 3 or tokens.shape[2] != width:
        raise ValueError(f"tokens: expected [B, T, {width}], got {tuple(tokens.shape)}")


def check_start(image: Tensor | None, start_step: int, steps: int, batch: int) -> None:
    """Check coarse images [batch, 3, H, W] in [0, 1] and the step to start from.

    Raises:
        ValueError: If shape or range do not fit, or a later start has no image.
    """
    if not 0 <= start_step <= steps:
        raise ValueError(f"start_step: expected 0 to {steps}, got {start_step}")
    if image is None:
        if start_step:
            raise ValueError(f"start_step {start_step} needs a coarse image")
        return
    if len(image) != batch:
        raise ValueError(f"coarse images: expected {batch}, one per trial, got {len(image)}")
    check_images(image)


def check_images(images: Tensor) -> None:
    """Check images [B, 3, H, W] in [0, 1].

    Raises:
        ValueError: If shape or range are others.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images: expected [B, 3, H, W], got {tuple(images.shape)}")
    low, high = images.aminmax()
    if not (low >= 0 and high <= 1):
        raise ValueError(f"images: expected values in [0, 1], got {low:.3g} to {high:.3g}")


def check_seeds(seeds: Sequence[int], count: int) -> None:
    """Check that there is a seed for each image.

    Raises:
        ValueError: If there are more or fewer.
    """
    if len(seeds) != count:
        raise ValueError(f"seeds: expected {count}, one per image, got {len(seeds)}")


def seeded(seeds: Sequence[int]) -> list[torch.Generator]:
    """A generator for each seed."""
    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]


def one_each(generator: Generators, count: int) -> list[torch.Generator | None]:
    """A generator for each image: a list's own, or one (None is torch's global one) for all.

    Raises:
        ValueError: If a list has another length.
    """
    if generator is None or isinstance(generator, torch.Generator):
        return [generator] * count
    if len(generator) != count:
        raise ValueError(f"generator: expected {count}, one per image, got {len(generator)}")
    return list(generator)
