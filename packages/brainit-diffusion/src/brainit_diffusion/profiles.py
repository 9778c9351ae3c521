"""GPUs and experiments that `planning` knows by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import open_clip

from brainit_diffusion.unet import sdxl_vae_config, unclip_unet_config

GIB = 2**30


class GPU(NamedTuple):
    """Memory in bytes, and dense bfloat16 operations a second at its peak."""

    memory: float
    peak: float


GPUS = {
    name: GPU(gib * GIB, tflops * 1e12)
    for name, (gib, tflops) in {
        "h200": (140, 989),
        "h100": (79, 989),
        "a100": (79, 312),
        "a100-40": (39, 312),
        "l40s": (44, 362),
        "rtx4090": (23.5, 165),
        "rtx3090": (23.5, 71),
    }.items()
}
"""As their makers state them."""


@dataclass(frozen=True)
class Profile:
    """Models and amounts of an experiment.

    Attributes:
        clip: OpenCLIP's configuration.
        unet: Arguments of `UNet2DConditionModel`.
        vae: Arguments of `AutoencoderKL`.
        stimuli: Images whose tokens are stored.
        pairs: Of responses and images, in an epoch of stage 2.
        tested: Images to reconstruct.
        epochs: Of stage 2.
        batch: Images of a batch of stage 2.
        refined: Side of refined images in pixels; none if 0.
    """

    clip: Mapping[str, Any]
    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    stimuli: int
    pairs: int
    tested: int
    epochs: int
    batch: int
    refined: int = 0

    @property
    def latent(self) -> tuple[int, int, int]:
        """Shape of a latent [C, h, w]."""
        side = self.unet["sample_size"]
        return self.unet["in_channels"], side, side

    @property
    def n_tokens(self) -> int:
        """Tokens of an image, T."""
        vision = self.clip["vision_cfg"]
        return int((vision["image_size"] // vision["patch_size"]) ** 2)

    @property
    def width(self) -> int:
        """Of a token, W."""
        return int(self.clip["vision_cfg"]["width"])


def nsd() -> Profile:
    """Eight subjects' 9,000 own images, four subjects' 1,000 of the test (arXiv 2510.25976)."""
    return Profile(
        clip=open_clip.get_model_config("ViT-bigG-14"),
        unet=unclip_unet_config(),
        vae=sdxl_vae_config(),
        stimuli=73_000,
        pairs=8 * 9_000,
        tested=4 * 1_000,
        epochs=10,
        batch=8,
        refined=768,
    )


def tiny() -> Profile:
    """Models of the workspace's tiny size, on simulated scans."""
    vision = {"image_size": 96, "patch_size": 12, "width": 128, "layers": 4, "head_width": 32}
    text = {"context_length": 32, "vocab_size": 124, "width": 96, "heads": 3, "layers": 2}
    small = {"sample_size": 12, "block_out_channels": (96, 128), "layers_per_block": 1}
    return Profile(
        clip={"embed_dim": 96, "vision_cfg": vision, "text_cfg": text},
        unet=unclip_unet_config()
        | small
        | {
            "in_channels": 8,
            "out_channels": 8,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": 1,
            "attention_head_dim": (3, 4),
            "norm_num_groups": 8,
            "cross_attention_dim": 128,
            "addition_time_embed_dim": 32,
            "projection_class_embeddings_input_dim": 128,
        },
        vae=sdxl_vae_config()
        | {
            "block_out_channels": (16, 32, 64, 96),
            "layers_per_block": 1,
            "latent_channels": 8,
            "norm_num_groups": 2,
            "sample_size": 96,
        },
        stimuli=2500,
        pairs=2400,
        tested=400,
        epochs=10,
        batch=8,
    )


PROFILES: dict[str, Callable[[], Profile]] = {"nsd": nsd, "tiny": tiny}
