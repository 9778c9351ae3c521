"""The semantic branch as a diffusers pipeline: images from CLIP tokens and a coarse image."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, SchedulerMixin, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.outputs import BaseOutput
from torch import Tensor

from brainit_diffusion.inputs import (
    Generators,
    check_components,
    check_start,
    check_tokens,
    one_each,
)
from brainit_diffusion.integrity import check_component
from brainit_diffusion.latents import decode_latents, encode_images
from brainit_diffusion.objective import vector_condition
from brainit_diffusion.pixels import resize
from brainit_diffusion.sampler import draw_start, guided_prediction
from brainit_diffusion.schedule import set_timesteps
from brainit_diffusion.unconditional import UnconditionalTokens

OUTPUTS = ("pil", "np", "pt", "latent")

OnStepEnd = Callable[[Any, int, Tensor, dict[str, Any]], dict[str, Any]]


@dataclass
class BrainITPipelineOutput(BaseOutput):
    """What `BrainITPipeline` returns.

    Attributes:
        images: B times `num_images_per_prompt` of them, a trial's samples side by side: PIL images,
            an array [N, S, S, 3] or a tensor [N, 3, S, S] in [0, 1], or latents [N, C, h, w].
        uncertainty: With several samples a trial, their standard deviation at every pixel, root
            mean square over the colours [B, S, S]: where the tokens leave the image open.
    """

    images: Any
    uncertainty: Tensor | None = None


class BrainITPipeline(DiffusionPipeline):
    """CLIP image tokens, and a coarse image where there is one, to images by unCLIP diffusion.

    The semantic branch of Brain-IT (arXiv 2510.25976) in diffusers' conventions: it saves, loads,
    offloads and takes other schedulers as every pipeline does. A plain Euler scheduler runs on the
    published timesteps (`euler_timesteps`), any other one as its configuration says.

    Args:
        vae: Images to latents and back.
        unet: Denoises latents, given tokens and the "text_time" vector condition of original size
            and crop alone (`unclip_unet_config`).
        scheduler: Any scheduler of diffusers that is set to what the UNet predicts
            (`euler_scheduler`, `few_step_scheduler`).
        unconditional_tokens: For `unconditional="learned"`.
        original_size: Height and width of the vector condition in pixels; the image size if None.
            The public checkpoint wants (768, 768).

    Raises:
        ValueError: If the parts are not those of one unCLIP model.
    """

    model_cpu_offload_seq = "unconditional_tokens->unet->vae"
    _optional_components = ["unconditional_tokens"]  # noqa: RUF012 - as diffusers declares it
    _callback_tensor_inputs = ["latents", "tokens"]  # noqa: RUF012

    # Any: diffusers' classes get much of what they have at run time.
    vae: Any
    unet: Any
    scheduler: Any
    unconditional_tokens: Any
    config: Any
    maybe_free_model_hooks: Any
    progress_bar: Any
    register_modules: Any
    register_to_config: Any
    _execution_device: Any

    def __init__(
        self,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        scheduler: SchedulerMixin,
        unconditional_tokens: UnconditionalTokens | None = None,
        original_size: tuple[int, int] | list[int] | None = None,
    ) -> None:
        super().__init__()
        check_components(vae, unet, unconditional_tokens)
        self.register_modules(
            vae=vae, unet=unet, scheduler=scheduler, unconditional_tokens=unconditional_tokens
        )
        self.register_to_config(original_size=original_size)
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.image_size = int(self.unet.config.sample_size) * factor
        self.image_processor = VaeImageProcessor(vae_scale_factor=factor)
        self._guidance_scale, self._num_timesteps, self._interrupt = 1.0, 0, False

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> BrainITPipeline:
        """Read a folder, or a repository of the hub, that `save_pretrained` wrote.

        Weights are read from safetensors alone, and compared with their models first.

        Args:
            name: The folder, or the repository's name.
            **options: Those of `DiffusionPipeline.from_pretrained`.

        Raises:
            FileNotFoundError: If the folder is no pipeline's, or a part of it is missing.
            ValueError: If it holds another pipeline, or files that are cut off or do not fit.
        """
        options.setdefault("use_safetensors", True)
        folder = Path(name) if Path(name).is_dir() else Path(cls.download(str(name), **options))
        index = folder / cls.config_name
        if not index.is_file():
            raise FileNotFoundError(f"{folder}: expected a diffusers pipeline ({cls.config_name})")
        written = json.loads(index.read_text())
        if written.get("_class_name") != cls.__name__:
            raise ValueError(f"{index}: expected {cls.__name__}, got {written.get('_class_name')}")
        kinds: dict[str, Any] = {"vae": AutoencoderKL, "unet": UNet2DConditionModel}
        if written.get("unconditional_tokens", [None])[0]:
            kinds["unconditional_tokens"] = UnconditionalTokens
        for part in kinds.keys() - options.keys():
            check_component(folder / part, kinds[part], options.get("variant"))
        pipeline: BrainITPipeline = super().from_pretrained(str(folder), **options)
        return pipeline

    @property
    def guidance_scale(self) -> float:
        """Guidance of the running sampling; a callback may change `_guidance_scale`."""
        return self._guidance_scale

    @property
    def num_timesteps(self) -> int:
        """How many steps the running sampling takes."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Whether a callback has asked the running sampling to stop, by `_interrupt`."""
        return self._interrupt

    @torch.no_grad()
    def __call__(
        self,
        tokens: Tensor,
        image: Tensor | None = None,
        start_step: int = 0,
        num_inference_steps: int = 38,
        guidance_scale: float = 5.0,
        unconditional: str = "normal",
        noise_offset: float = 0.04,
        contrast: float = 1.0,
        num_images_per_prompt: int = 1,
        generator: Generators = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: OnStepEnd | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> BrainITPipelineOutput | tuple[Any, Tensor | None]:
        """Sample images.

        Args:
            tokens: CLIP patch tokens [B, T, W].
            image: Coarse images to start from, in [0, 1] [B, 3, H, W]; resized to the model's size
                (bicubic, antialiased).
            start_step: First step to run. At 0 the coarse image is not used; later, its latents
                with that step's noise are the start; at `num_inference_steps` nothing runs and the
                VAE's copy of it returns.
            num_inference_steps: Steps of the whole schedule.
            guidance_scale: Classifier-free guidance; 1 is none.
            unconditional: The tokens it guides away from: "normal", random-normal ones drawn for
                each image, as published; "zeros"; or "learned", those of `unconditional_tokens`.
            noise_offset: Offset of the start noise per image and channel, as in training.
            contrast: Factor on the output's distance from mid-grey.
            num_images_per_prompt: Samples of each trial.
            generator: One for each image to be made, so that it looks the same in any batch; or one
                for all, drawn from image by image; or None for torch's global one.
            output_type: "pil", "np", "pt" or "latent".
            return_dict: False returns a tuple.
            callback_on_step_end: Called as in every pipeline of diffusers: with the pipeline, the
                number of the step among those run, its timestep and the tensors named next. Tensors
                that it returns replace them.
            callback_on_step_end_tensor_inputs: "latents", "tokens" or both.

        Returns:
            `BrainITPipelineOutput`, or its two fields.

        Raises:
            ValueError: If shapes, ranges or choices do not fit.
        """
        check_tokens(tokens, self.unet.config.cross_attention_dim)
        check_start(image, start_step, num_inference_steps, len(tokens))
        if output_type not in OUTPUTS:
            raise ValueError(f"output_type: expected one of {OUTPUTS}, got {output_type!r}")
        wanted = callback_on_step_end_tensor_inputs
        if not set(wanted) <= set(self._callback_tensor_inputs):
            raise ValueError(
                "callback_on_step_end_tensor_inputs: expected some of "
                f"{self._callback_tensor_inputs}, got {list(wanted)}"
            )
        self._guidance_scale, self._interrupt = guidance_scale, False
        tokens = tokens.repeat_interleave(num_images_per_prompt, 0)
        tokens = tokens.to(self._execution_device, torch.float32)
        generators = one_each(generator, len(tokens))
        noise, against = self._draw(tokens, generators, noise_offset, unconditional)
        set_timesteps(self.scheduler, num_inference_steps, tokens.device)
        if image is not None:
            image = image.repeat_interleave(num_images_per_prompt, 0)
        latents, timesteps = self._start(image, noise, start_step)
        random = None if generator is None else generators
        latents = self._denoise(
            latents, timesteps, tokens, against, random, callback_on_step_end, wanted
        )
        images, uncertainty = latents, None
        if output_type != "latent":
            images = decode_latents(self.vae, latents, contrast)
            uncertainty = _spread(images, num_images_per_prompt)
            images = self.image_processor.postprocess(
                images, output_type, do_denormalize=[False] * len(images)
            )
        self.maybe_free_model_hooks()
        return BrainITPipelineOutput(images, uncertainty) if return_dict else (images, uncertainty)

    def fit(self, images: Tensor) -> Tensor:
        """Images in [0, 1], resized to the model's size (bicubic, antialiased)."""
        return resize(images, (self.image_size, self.image_size))

    def _draw(
        self,
        tokens: Tensor,
        generators: Sequence[torch.Generator | None],
        noise_offset: float,
        unconditional: str,
    ) -> tuple[Tensor, Tensor]:
        """Start noise, and the tokens to guide away from, on the device of `tokens`."""
        config = self.unet.config
        noise, drawn = draw_start(
            generators,
            (config.in_channels, config.sample_size, config.sample_size),
            tuple(tokens.shape[1:]),
            noise_offset,
        )
        if unconditional == "zeros":
            drawn = torch.zeros_like(drawn)
        elif unconditional == "learned":
            if self.unconditional_tokens is None:
                raise ValueError("unconditional 'learned': the pipeline has no learned tokens")
            drawn = self.unconditional_tokens(len(tokens)).float()
        elif unconditional != "normal":
            raise ValueError(
                f"unconditional: expected 'normal', 'zeros' or 'learned', got {unconditional!r}"
            )
        return noise.to(tokens.device), drawn.to(tokens.device)

    def _start(self, image: Tensor | None, noise: Tensor, start_step: int) -> tuple[Tensor, Tensor]:
        """Latents on the scheduler's scale at a step, and the timesteps from there."""
        if image is None or start_step == 0:
            return noise * self.scheduler.init_noise_sigma, self.scheduler.timesteps
        latents = encode_images(self.vae, self.fit(image).to(noise.device))
        begin = start_step * self.scheduler.order
        timesteps = self.scheduler.timesteps[begin:]
        if len(timesteps):
            if hasattr(self.scheduler, "set_begin_index"):
                self.scheduler.set_begin_index(begin)
            latents = self.scheduler.add_noise(latents, noise, timesteps[:1].repeat(len(latents)))
        return latents, timesteps

    def _denoise(
        self,
        latents: Tensor,
        timesteps: Tensor,
        tokens: Tensor,
        against: Tensor,
        generators: Sequence[torch.Generator | None] | None,
        on_step_end: OnStepEnd | None,
        wanted: Sequence[str],
    ) -> Tensor:
        """Run the scheduler's steps, guided."""
        size = self.config.original_size or (self.image_size, self.image_size)
        time_ids = vector_condition(len(tokens), tuple(size), device=tokens.device)
        draws = "generator" in signature(self.scheduler.step).parameters
        options = {"generator": generators} if draws else {}
        self._num_timesteps = len(timesteps)
        with self.progress_bar(total=len(timesteps)) as bar:
            for step, timestep in enumerate(timesteps):
                if self._interrupt:
                    break
                noisy = self.scheduler.scale_model_input(latents, timestep)
                predicted = guided_prediction(
                    self.unet, noisy, timestep, tokens, against, time_ids, self._guidance_scale
                )
                latents = self.scheduler.step(
                    predicted, timestep, latents, **options, return_dict=False
                )[0]
                if on_step_end is not None:
                    state = {"latents": latents, "tokens": tokens}
                    state |= on_step_end(
                        self, step, timestep, {name: state[name] for name in wanted}
                    )
                    latents, tokens = state["latents"], state["tokens"]
                bar.update()
        return latents


def _spread(images: Tensor, samples: int) -> Tensor | None:
    """Standard deviation [B, H, W] over the samples of each trial, of [B * samples, 3, H, W]."""
    if samples == 1:
        return None
    trials = images.reshape(-1, samples, *images.shape[1:])
    return trials.var(1).mean(1).sqrt()
