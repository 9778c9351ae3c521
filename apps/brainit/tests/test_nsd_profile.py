"""The `nsd` profile builds: every model at the published size, on the meta device."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from brainit.computing import computing_type
from brainit.profile import load_profile
from brainit.stages.decoding import bit_config
from brainit.stages.encoder import encoder_config
from brainit_bit import BrainInteractionTransformer
from brainit_clusters.encoder.backbone import from_dinov2
from brainit_clusters.encoder.model import BrainEncoder
from brainit_diffusion.unet import unclip_unet_config
from brainit_dip.config import PRESETS, InversionConfig
from brainit_dip.vgg_tokens import VGGTokens

PROFILE = load_profile("nsd")
VGG16_WIDTHS, BIGG_TOKENS, BIGG_WIDTH = [64, 128, 256, 512, 512], 256, 1664


def _parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_encoder_builds_over_dinov2_large() -> None:
    with torch.device("meta"):
        sizes = Dinov2WithRegistersConfig(
            hidden_size=1024,
            num_hidden_layers=24,
            num_attention_heads=16,
            image_size=518,
            patch_size=14,
        )
        backbone = from_dinov2("dinov2:large", Dinov2WithRegistersModel(sizes), 224)
        encoder = BrainEncoder(encoder_config(PROFILE.encoder), backbone)
    assert backbone.n_tokens == 257
    trainable = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    # 24 low-rank residuals of 2 x 7 x 1,024 and a 256 x 640 readout are among them.
    assert trainable > 24 * 2 * 7 * 1024 + 256 * 640


@pytest.mark.parametrize("branch", ["low_level", "semantic"])
def test_transformers_build(branch: str) -> None:
    layout = VGGTokens(VGG16_WIDTHS, 112)
    tokens, width = {
        "low_level": (layout.n_tokens, layout.token_dim),
        "semantic": (BIGG_TOKENS, BIGG_WIDTH),
    }[branch]
    assert (layout.n_tokens, layout.token_dim) == (7190, 512)
    config = bit_config(getattr(PROFILE, branch), PROFILE.clusters.count, tokens, width)
    with torch.device("meta"):
        model = BrainInteractionTransformer(config)
    assert config.dim == 512
    # query tokens, cluster embeddings and the last layer, at the least
    assert _parameters(model) > tokens * 512 + 128 * 512 + 512 * width


def test_unclip_builds() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(unclip_unet_config())
    assert unet.config.cross_attention_dim == BIGG_WIDTH
    assert _parameters(unet) > 2e9


def test_named_choices_exist() -> None:
    assert PROFILE.coarse.preset in PRESETS
    assert computing_type(PROFILE.image.precision) in (torch.bfloat16, torch.float32)
    reference = InversionConfig.named("reference")
    assert (reference.steps, reference.lr, reference.image_size) == (1800, 1e-3, 224)
