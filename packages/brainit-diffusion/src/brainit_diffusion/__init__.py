"""Images from predicted CLIP patch tokens and a coarse image, by unCLIP diffusion.

The semantic branch and the fusion of Brain-IT (arXiv 2510.25976). Names are imported on first use,
because diffusers and open_clip take seconds to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from brainit_diffusion.__about__ import __version__

if TYPE_CHECKING:
    from brainit_diffusion.checkpoint_files import convert_to_diffusers, convert_to_sgm
    from brainit_diffusion.clip_tokens import ClipTokens
    from brainit_diffusion.conversion import known_configs, to_diffusers, to_sgm
    from brainit_diffusion.fusion import Fusion, fuse
    from brainit_diffusion.image_files import open_images, store_tokens
    from brainit_diffusion.memory import TrainingMemory, training_memory
    from brainit_diffusion.objective import denoising_loss, vector_condition
    from brainit_diffusion.pipeline import BrainITPipeline, BrainITPipelineOutput
    from brainit_diffusion.planning import plan
    from brainit_diffusion.recovery import Recovery, recover
    from brainit_diffusion.refine import lazy_refiner, load_refiner, refine_images
    from brainit_diffusion.sampler import draw_start
    from brainit_diffusion.schedule import (
        euler_scheduler,
        euler_timesteps,
        few_step_scheduler,
        sigma_table,
    )
    from brainit_diffusion.stage2 import Stage2, Stage2Config
    from brainit_diffusion.token_store import TokenStore, write_tokens
    from brainit_diffusion.training import Batch, train
    from brainit_diffusion.unclip import UnCLIP
    from brainit_diffusion.unconditional import UnconditionalTokens
    from brainit_diffusion.unet import added_conditions, unclip_unet_config

_HOMES = {
    "Batch": "training",
    "BrainITPipeline": "pipeline",
    "BrainITPipelineOutput": "pipeline",
    "ClipTokens": "clip_tokens",
    "Fusion": "fusion",
    "Recovery": "recovery",
    "Stage2": "stage2",
    "Stage2Config": "stage2",
    "TokenStore": "token_store",
    "TrainingMemory": "memory",
    "UnCLIP": "unclip",
    "UnconditionalTokens": "unconditional",
    "added_conditions": "unet",
    "convert_to_diffusers": "checkpoint_files",
    "convert_to_sgm": "checkpoint_files",
    "denoising_loss": "objective",
    "draw_start": "sampler",
    "euler_scheduler": "schedule",
    "euler_timesteps": "schedule",
    "few_step_scheduler": "schedule",
    "fuse": "fusion",
    "known_configs": "conversion",
    "lazy_refiner": "refine",
    "load_refiner": "refine",
    "open_images": "image_files",
    "plan": "planning",
    "recover": "recovery",
    "refine_images": "refine",
    "sigma_table": "schedule",
    "store_tokens": "image_files",
    "to_diffusers": "conversion",
    "to_sgm": "conversion",
    "train": "training",
    "training_memory": "memory",
    "unclip_unet_config": "unet",
    "vector_condition": "objective",
    "write_tokens": "token_store",
}

__all__ = [
    "Batch",
    "BrainITPipeline",
    "BrainITPipelineOutput",
    "ClipTokens",
    "Fusion",
    "Recovery",
    "Stage2",
    "Stage2Config",
    "TokenStore",
    "TrainingMemory",
    "UnCLIP",
    "UnconditionalTokens",
    "__version__",
    "added_conditions",
    "convert_to_diffusers",
    "convert_to_sgm",
    "denoising_loss",
    "draw_start",
    "euler_scheduler",
    "euler_timesteps",
    "few_step_scheduler",
    "fuse",
    "known_configs",
    "lazy_refiner",
    "load_refiner",
    "open_images",
    "plan",
    "recover",
    "refine_images",
    "sigma_table",
    "store_tokens",
    "to_diffusers",
    "to_sgm",
    "train",
    "training_memory",
    "unclip_unet_config",
    "vector_condition",
    "write_tokens",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
