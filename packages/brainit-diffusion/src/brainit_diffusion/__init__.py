"""Images from predicted CLIP patch tokens and a coarse image, by unCLIP diffusion.

The semantic branch and the fusion of Brain-IT (arXiv 2510.25976). Names are imported on first use,
because diffusers and open_clip take seconds to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from brainit_diffusion.__about__ import __version__

if TYPE_CHECKING:
    from brainit_diffusion.clip_tokens import ClipTokens
    from brainit_diffusion.fusion import Fusion, fuse
    from brainit_diffusion.objective import denoising_loss, vector_condition
    from brainit_diffusion.pipeline import BrainITPipeline, BrainITPipelineOutput
    from brainit_diffusion.refine import lazy_refiner, load_refiner, refine_images
    from brainit_diffusion.sampler import draw_start
    from brainit_diffusion.schedule import (
        euler_scheduler,
        euler_timesteps,
        few_step_scheduler,
        sigma_table,
    )
    from brainit_diffusion.unclip import UnCLIP
    from brainit_diffusion.unconditional import UnconditionalTokens
    from brainit_diffusion.unet import added_conditions, unclip_unet_config

_HOMES = {
    "BrainITPipeline": "pipeline",
    "BrainITPipelineOutput": "pipeline",
    "ClipTokens": "clip_tokens",
    "Fusion": "fusion",
    "UnCLIP": "unclip",
    "UnconditionalTokens": "unconditional",
    "added_conditions": "unet",
    "draw_start": "sampler",
    "denoising_loss": "objective",
    "euler_scheduler": "schedule",
    "euler_timesteps": "schedule",
    "few_step_scheduler": "schedule",
    "fuse": "fusion",
    "lazy_refiner": "refine",
    "load_refiner": "refine",
    "refine_images": "refine",
    "sigma_table": "schedule",
    "unclip_unet_config": "unet",
    "vector_condition": "objective",
}

__all__ = [
    "BrainITPipeline",
    "BrainITPipelineOutput",
    "ClipTokens",
    "Fusion",
    "UnCLIP",
    "UnconditionalTokens",
    "__version__",
    "added_conditions",
    "denoising_loss",
    "draw_start",
    "euler_scheduler",
    "euler_timesteps",
    "few_step_scheduler",
    "fuse",
    "lazy_refiner",
    "load_refiner",
    "refine_images",
    "sigma_table",
    "unclip_unet_config",
    "vector_condition",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
