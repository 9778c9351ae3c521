"""Images from CLIP tokens, and from a coarse image where one is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from torch import Tensor

from brainit_diffusion.objective import vector_condition
from brainit_diffusion.sampler import draw_start, sample
from brainit_diffusion.schedule import euler_scheduler, euler_timesteps


class UnCLIP:
    """An unCLIP model: a VAE and a UNet that attends to CLIP image tokens.

    Args:
        vae: Images to latents and back.
        unet: Denoises latents, given tokens and the "text_time" vector condition.
        original_size: Height and width of the vector condition in pixels; the image size if None.
            The public checkpoint wants (768, 768).
        scheduler: SDXL's noise schedule and a prediction of noise if None (`euler_scheduler`).
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        original_size: tuple[int, int] | None = None,
        scheduler: EulerDiscreteScheduler | None = None,
    ) -> None:
        # Any: diffusers' classes get much of what they have at run time.
        self.vae = cast(Any, vae)
        self.unet = cast(Any, unet)
        self.scheduler: Any = scheduler or euler_scheduler()
        for part in (self.vae, self.unet):
            part.eval()
        self.latent_size = int(self.unet.config.sample_size)
        self.image_size = self.latent_size * 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.original_size = original_size or (self.image_size, self.image_size)

    @classmethod
    def load(cls, folder: Path | str, original_size: tuple[int, int] | None = None) -> UnCLIP:
        """Read the diffusers folders `vae/` and `unet/` of a folder, in float32.

        A `scheduler/` beside them says how the UNet was trained; without one it predicts noise.

        Raises:
            FileNotFoundError: If one of the two is missing.
        """
        folder = Path(folder)
        vae = _read(folder / "vae", AutoencoderKL)
        unet = _read(folder / "unet", UNet2DConditionModel)
        own = (folder / "scheduler").is_dir()
        scheduler = EulerDiscreteScheduler.from_pretrained(folder / "scheduler") if own else None
        return cls(vae, unet, original_size, scheduler)

    @property
    def device(self) -> torch.device:
        """Where the UNet is."""
        return torch.device(self.unet.device)

    def to(self, device: torch.device | str) -> UnCLIP:
        """Move both models; returns this object."""
        self.vae.to(device)
        self.unet.to(device)
        return self

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Latents of images in [0, 1] [B, 3, H, W]: the mode times the scaling factor."""
        images = self._fit(images).to(self.device)
        latents: Tensor = self.vae.encode(2 * images - 1).latent_dist.mode()
        return latents.float() * float(self.vae.config.scaling_factor)

    @torch.no_grad()
    def decode(self, latents: Tensor, contrast: float = 1.0) -> Tensor:
        """Images in [0, 1] [B, 3, S, S] of latents, their contrast scaled around mid-grey."""
        images: Tensor = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        return (0.5 + 0.5 * contrast * images.float()).clamp(0, 1)

    @torch.no_grad()
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
        batch_size: int = 32,
        dtype: torch.dtype = torch.float32,
        progress: bool = False,
    ) -> Tensor:
        """Sample one image for each set of tokens (Brain-IT, arXiv 2510.25976).

        Args:
            tokens: CLIP patch tokens [B, T, W].
            coarse: Images to start from, in [0, 1] [B, 3, H, W]; resized to the model's size
                (bicubic, antialiased).
            start_step: First step to run. At 0 the coarse image is not used; later, its latents
                with noise of that step's sigma are the start; at `steps` nothing runs and the VAE's
                copy of it returns.
            steps: Euler steps of the whole schedule.
            guidance_scale: Classifier-free guidance against random-normal tokens; 1 is none.
            noise_offset: Offset of the start noise, as in training.
            contrast: Factor on the output's distance from mid-grey.
            seeds: One per image: an image depends on its own seed only, not on its batch.
            batch_size: Images sampled at a time.
            dtype: Computing type: float32, or bfloat16 or float16 by autocast.
            progress: Show a bar over the steps of each batch.

        Returns:
            Images in [0, 1] [B, 3, S, S], float32 on the CPU.

        Raises:
            ValueError: If shapes, ranges or the number of seeds do not fit.
        """
        self._check(tokens, coarse, start_step, steps, seeds)
        result = torch.empty(len(tokens), 3, self.image_size, self.image_size)
        for first in range(0, len(tokens), batch_size):
            rows = slice(first, first + batch_size)
            self.scheduler.set_timesteps(timesteps=euler_timesteps(steps))
            with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
                start, unconditional = self._start(
                    None if coarse is None else coarse[rows],
                    start_step,
                    seeds[rows],
                    tokens,
                    noise_offset,
                )
                latents = sample(
                    self.unet,
                    self.scheduler,
                    start,
                    tokens[rows].to(self.device, torch.float32),
                    unconditional,
                    vector_condition(len(start), self.original_size, device=self.device),
                    guidance_scale,
                    start_step,
                    progress,
                )
                result[rows] = self.decode(latents, contrast).cpu()
        return result

    def _start(
        self,
        coarse: Tensor | None,
        start_step: int,
        seeds: Sequence[int],
        tokens: Tensor,
        noise_offset: float,
    ) -> tuple[Tensor, Tensor]:
        """Noisy latents at `start_step`, and unconditional tokens."""
        shape = (self.unet.config.in_channels, self.latent_size, self.latent_size)
        noise, unconditional = (
            x.to(self.device)
            for x in draw_start(seeds, shape, tuple(tokens.shape[1:]), noise_offset)
        )
        if coarse is None or start_step == 0:
            return noise * self.scheduler.init_noise_sigma, unconditional
        return self.encode(coarse) + self.scheduler.sigmas[start_step] * noise, unconditional

    def _fit(self, images: Tensor) -> Tensor:
        """Resize to the model's image size."""
        size = (self.image_size, self.image_size)
        if images.shape[-2:] == size:
            return images
        resized = F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)
        return resized.clamp(0, 1)

    def _check(
        self,
        tokens: Tensor,
        coarse: Tensor | None,
        start_step: int,
        steps: int,
        seeds: Sequence[int],
    ) -> None:
        width = self.unet.config.cross_attention_dim
        if tokens.ndim != 3 or tokens.shape[2] != width:
            raise ValueError(f"tokens: expected [B, T, {width}], got {tuple(tokens.shape)}")
        if len(seeds) != len(tokens):
            raise ValueError(f"seeds: expected {len(tokens)}, one per image, got {len(seeds)}")
        if not 0 <= start_step <= steps:
            raise ValueError(f"start_step: expected 0 to {steps}, got {start_step}")
        if coarse is None:
            if start_step:
                raise ValueError(f"start_step {start_step} needs a coarse image")
            return
        if coarse.ndim != 4 or coarse.shape[:2] != (len(tokens), 3):
            raise ValueError(
                f"coarse: expected [{len(tokens)}, 3, H, W], got {tuple(coarse.shape)}"
            )
        low, high = coarse.aminmax()
        if not (low >= 0 and high <= 1):
            raise ValueError(f"coarse: expected values in [0, 1], got {low:.3g} to {high:.3g}")


def _read(folder: Path, kind: Any) -> Any:
    """A diffusers model of a local folder, in float32, its convolutions laid out for speed."""
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder}: expected a diffusers {kind.__name__} (config.json)")
    model = kind.from_pretrained(folder, torch_dtype=torch.float32, use_safetensors=True)
    return model.to(memory_format=torch.channels_last)
