"""Tiny random but real components, built once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from brainit_diffusion.unclip import UnCLIP

torch.set_num_threads(1)


def tiny_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=0.7,
    )


def tiny_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=(2, 4),
        norm_num_groups=8,
        cross_attention_dim=12,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=32,
    )


@pytest.fixture(scope="session")
def build_unet() -> Callable[[], UNet2DConditionModel]:
    return tiny_unet


@pytest.fixture(scope="session")
def unclip() -> UnCLIP:
    torch.manual_seed(0)
    return UnCLIP(tiny_vae(), tiny_unet())


@pytest.fixture(scope="session")
def tokens() -> torch.Tensor:
    return torch.randn(3, 5, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def coarse() -> torch.Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(2))
