"""The unCLIP UNet: SDXL's UNet that attends to CLIP image tokens, in diffusers' conventions."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def unclip_unet_config() -> dict[str, Any]:
    """Arguments of the paper-size `UNet2DConditionModel` (2.5 billion parameters).

    SDXL's UNet with cross-attention over CLIP tokens of width 1,664 and a 1,024-wide vector
    condition (original size and crop, 4 x 256 sinusoidal) for 32 x 32 latents, as in the public
    unCLIP checkpoint of MindEye2 (arXiv 2403.11207), which Brain-IT (arXiv 2510.25976) starts from.
    """
    return {
        "sample_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 2,
        # The first level has no attention; diffusers wants a number there all the same.
        "transformer_layers_per_block": (1, 2, 10),
        # Heads per level: 64 channels each (the name is a known misnomer in diffusers).
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 1664,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 1024,
    }


def sdxl_unet_config() -> dict[str, Any]:
    """Arguments of SDXL's `UNet2DConditionModel` (arXiv 2307.01952): two text encoders' tokens."""
    return unclip_unet_config() | {
        "sample_size": 128,
        "cross_attention_dim": 2048,
        # Pooled text, 1,280, and original size, crop and target size, 6 x 256 sinusoidal.
        "projection_class_embeddings_input_dim": 2816,
    }


def sdxl_vae_config() -> dict[str, Any]:
    """Arguments of SDXL's `AutoencoderKL` (arXiv 2307.01952), which the unCLIP model shares."""
    return {
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "sample_size": 1024,
        "scaling_factor": 0.13025,
        "force_upcast": True,  # float16 overflows in it
    }


def added_conditions(time_ids: Tensor) -> dict[str, Tensor]:
    """The `added_cond_kwargs` of the UNet: the vector condition beside a zero-width text embedding.

    Args:
        time_ids: Original height and width, crop top and left [B, 4] (`vector_condition`).
    """
    return {"text_embeds": time_ids.new_zeros(len(time_ids), 0), "time_ids": time_ids}
