"""A whole test set through the pipeline: images in batches, each with its own seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, SchedulerMixin, UNet2DConditionModel
from torch import Tensor

from brainit_diffusion.inputs import check_seeds, check_start, check_tokens, seeded
from brainit_diffusion.integrity import check_component
from brainit_diffusion.latents import decode_latents, encode_images
from brainit_diffusion.pipeline import BrainITPipeline, OnStepEnd
from brainit_diffusion.schedule import euler_scheduler
from brainit_diffusion.unconditional import UnconditionalTokens


class UnCLIP:
    """An unCLIP model: a VAE and a UNet that attends to CLIP image tokens.

    Args:
        vae: Images to latents and back.
        unet: Denoises latents, given tokens and the "text_time" vector condition.
        original_size: Height and width of the vector condition in pixels; the image size if None.
            The public checkpoint wants (768, 768).
        scheduler: SDXL's noise schedule and a prediction of noise if None (`euler_scheduler`).
        unconditional_tokens: For `unconditional="learned"`.

    Attributes:
        pipeline: The `BrainITPipeline` of these parts.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        original_size: tuple[int, int] | None = None,
        scheduler: EulerDiscreteScheduler | SchedulerMixin | None = None,
        unconditional_tokens: UnconditionalTokens | None = None,
    ) -> None:
        # Any: diffusers' classes get much of what they have at run time.
        chosen: Any = scheduler or euler_scheduler()
        self.pipeline: Any = BrainITPipeline(vae, unet, chosen, unconditional_tokens, original_size)
        self.vae, self.unet = cast(Any, vae).eval(), cast(Any, unet).eval()

    @classmethod
    def load(cls, folder: Path | str, original_size: tuple[int, int] | None = None) -> UnCLIP:
        """Read a folder that a `BrainITPipeline` saved, or the two folders `vae/` and `unet/`.

        All in float32. Beside the two, a `scheduler/` (of Euler's) says how the UNet was trained;
        without one it predicts noise.

        Raises:
            FileNotFoundError: If one of the two, or a part of it, is missing.
            ValueError: If files are cut off, or are not those of one unCLIP model.
        """
        folder = Path(folder)
        if (folder / BrainITPipeline.config_name).is_file():
            saved: Any = BrainITPipeline.from_pretrained(folder, torch_dtype=torch.float32)
            size = original_size or saved.config.original_size
            return cls(saved.vae, saved.unet, size, saved.scheduler, saved.unconditional_tokens)
        vae = _read(folder / "vae", AutoencoderKL)
        unet = _read(folder / "unet", UNet2DConditionModel)
        own = (folder / "scheduler").is_dir()
        scheduler = EulerDiscreteScheduler.from_pretrained(folder / "scheduler") if own else None
        return cls(vae, unet, original_size, scheduler)

    @property
    def image_size(self) -> int:
        """Side of an image in pixels, S."""
        return int(self.pipeline.image_size)

    @property
    def device(self) -> torch.device:
        """Where the UNet is."""
        return torch.device(self.unet.device)

    def to(self, device: torch.device | str) -> UnCLIP:
        """Move both models; returns this object."""
        self.pipeline.to(device)
        return self

    def encode(self, images: Tensor) -> Tensor:
        """Latents of images in [0, 1] [B, 3, H, W]: the mode times the scaling factor."""
        return encode_images(self.vae, self.pipeline.fit(images).to(self.device))

    def decode(self, latents: Tensor, contrast: float = 1.0) -> Tensor:
        """Images in [0, 1] [B, 3, S, S] of latents, their contrast scaled around mid-grey."""
        return decode_latents(self.vae, latents, contrast)

    def generate(
        self,
        tokens: Tensor,
        coarse: Tensor | None = None,
        start_step: int = 0,
        steps: int = 38,
        guidance_scale: float = 5.0,
        noise_offset: float = 0.04,
        contrast: float = 1.0,
        *,
        seeds: Sequence[int],
        unconditional: str = "normal",
        batch_size: int = 32,
        dtype: torch.dtype = torch.float32,
        progress: bool = False,
        on_step_end: OnStepEnd | None = None,
    ) -> Tensor:
        """Sample one image for each set of tokens (Brain-IT, arXiv 2510.25976).

        Args:
            tokens: CLIP patch tokens [B, T, W].
            coarse: Images to start from, in [0, 1] [B, 3, H, W]; resized to the model's size
                (bicubic, antialiased).
            start_step: First step to run. At 0 the coarse image is not used; later, its latents
                with noise of that step's sigma are the start; at `steps` nothing runs and the VAE's
                copy of it returns.
            steps: Steps of the whole schedule.
            guidance_scale: Classifier-free guidance; 1 is none.
            noise_offset: Offset of the start noise, as in training.
            contrast: Factor on the output's distance from mid-grey.
            seeds: One per image: an image depends on its own seed only, not on its batch.
            unconditional: What it guides away from: "normal", "zeros" or "learned" tokens.
            batch_size: Images sampled at a time.
            dtype: Computing type: float32, or bfloat16 or float16 by autocast.
            progress: Show a bar over the steps of each batch.
            on_step_end: Called after every step of every batch, as the pipeline's
                `callback_on_step_end`.

        Returns:
            Images in [0, 1] [B, 3, S, S], float32 on the CPU.

        Raises:
            ValueError: If shapes, ranges or the number of seeds do not fit.
        """
        check_tokens(tokens, self.unet.config.cross_attention_dim)
        check_start(coarse, start_step, steps, len(tokens))
        check_seeds(seeds, len(tokens))
        self.pipeline.set_progress_bar_config(disable=not progress, leave=False)
        result = torch.empty(len(tokens), 3, self.image_size, self.image_size)
        for first in range(0, len(tokens), batch_size):
            rows = slice(first, first + batch_size)
            with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
                images = self.pipeline(
                    tokens[rows],
                    None if coarse is None else coarse[rows],
                    start_step,
                    steps,
                    guidance_scale,
                    unconditional,
                    noise_offset,
                    contrast,
                    generator=seeded(seeds[rows]),
                    output_type="pt",
                    callback_on_step_end=on_step_end,
                ).images
            result[rows] = images.cpu()
        return result


def _read(folder: Path, kind: Any) -> Any:
    """A diffusers model of a local folder, in float32, its convolutions laid out for speed."""
    check_component(folder, kind)
    model = kind.from_pretrained(folder, torch_dtype=torch.float32, use_safetensors=True)
    return model.to(memory_format=torch.channels_last)
