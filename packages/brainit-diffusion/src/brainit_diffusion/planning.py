"""What the stages of this package need of disk, memory and time, before anything is downloaded.

All of it is counted: real architectures are built without memory behind them, their operations run
on shapes alone. What is assumed beyond that is in `ASSUMPTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

import open_clip
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from brainit_diffusion.latents import decode_latents
from brainit_diffusion.memory import ADAM_STATES, count, fake_tensors, gradients, size
from brainit_diffusion.objective import vector_condition
from brainit_diffusion.profiles import GPU, Profile
from brainit_diffusion.stage2 import Stage2, Stage2Config, Trained
from brainit_diffusion.unet import sdxl_unet_config, sdxl_vae_config

UTILISATION = 1 / 3
"""Of the peak: a batch of 64 through the paper's UNet on an H100, with PyTorch's own kernels."""
LAUNCH = 7e-6
"""Seconds that the host takes for an operation: small batches on an H100 take no less."""
MARGIN = 0.15
"""Memory beyond what is counted, for kernels' scratch: on an H100 the steps of training took 2 to
6 % more than counted, and SDXL's VAE on 32 images 15 %."""
PASSES: dict[Trained, int] = {"full": 4, "low_rank": 3, "frozen": 3}
"""Forward passes that a training step costs: forward, again for checkpointing, gradients of what
comes in and, if it learns, of the weights."""
LEARNS: dict[Trained, str] = {
    "full": "UNet and decoder",
    "low_rank": "low rank and decoder",
    "frozen": "decoder alone",
}

ASSUMPTIONS = (
    f"time: {UTILISATION:.0%} of the peak in bfloat16, and no less than {LAUNCH * 1e6:.0f} us an "
    "operation (eager PyTorch); without reading and writing files",
    f"memory: {MARGIN:.0%} beyond what is counted is left free",
    "sampling: the pipeline in bfloat16; refinement: float16, its VAE in float32",
    "training: AdamW and a moving average, gradients accumulated, gradient checkpointing, bfloat16 "
    "by autocast; a UNet that learns is in float32, else in bfloat16; latents are encoded before",
    "the token decoder is not in it: add 4 bytes a weight, and 16 more for each that learns",
)


class Cost(NamedTuple):
    """Of one batch: bytes of the model and beyond it, operations of torch and of arithmetic."""

    held: int
    beyond: int
    operations: int
    flops: int


@dataclass(frozen=True)
class Stage:
    """What a stage needs; all sizes in bytes.

    Attributes:
        name: Of the stage.
        weights: Of the checkpoints that it reads.
        output: What it writes.
        batch: Images at a time.
        memory: Of the GPU, at that batch.
        flops: Of the whole stage.
        seconds: Likewise.
        largest_batch: That fits the GPU, if the planned one does not; 0 if none does.
        advice: What to do if it does not fit.
    """

    name: str
    weights: int
    output: int
    batch: int
    memory: int
    flops: int
    seconds: float
    largest_batch: int
    advice: str = ""

    @property
    def fits(self) -> bool:
        """Whether the planned batch does."""
        return self.largest_batch == self.batch


def plan(profile: Profile, gpu: GPU) -> list[Stage]:
    """Count every stage of an experiment: a minute or so for models of the paper's size."""
    stages = [_tokens(profile, gpu)]
    stages += [_training(profile, gpu, learns) for learns in PASSES]
    stages += _samplings(profile, gpu, (38, 10))
    return [*stages, _refinement(profile, gpu)] if profile.refined else stages


def cost(model: nn.Module, run: Callable[[str], object]) -> Cost:
    """Count one call on a model of the meta device: arithmetic there, memory on fake tensors.

    Args:
        model: What is called, in its types; it is on fake tensors afterwards.
        run: Calls it with inputs on the device that it is told, without gradients.
    """
    model.eval().requires_grad_(False)
    flops = _flops(lambda: run("meta"))
    with fake_tensors():
        _place(model)
        counted = count(model, lambda: run("cpu"))
    return Cost(size(model), counted.memory, counted.operations, flops)


def _place(model: nn.Module) -> None:
    """Give a model of the meta device tensors of the mode that is on."""
    for module in model.modules():
        for name, value in list(module.named_parameters(recurse=False)):
            new = nn.Parameter(torch.empty(value.shape, dtype=value.dtype), value.requires_grad)
            module.register_parameter(name, new)
        for name, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, torch.empty(buffer.shape, dtype=buffer.dtype))


def _stage(
    name: str,
    gpu: GPU,
    weights: int,
    output: int,
    batch: int,
    images: int,
    once: Cost,
    fixed: int = 0,
    advice: str = "",
) -> Stage:
    """A stage of so many images, of which a batch costs `once`; `fixed` beyond is in any batch."""
    room = gpu.memory / (1 + MARGIN) - once.held - fixed
    memory, largest = once.held + once.beyond, batch
    if memory * (1 + MARGIN) > gpu.memory:
        largest = max(0, min(batch, int(room / ((once.beyond - fixed) / batch))))
        smaller = f"batches of {largest} fit"
        advice = smaller if largest else advice or "no batch fits: a larger GPU, or offloading"
    flops = images * once.flops // batch
    seconds = max(
        flops / (UTILISATION * gpu.peak),
        ceil(images / max(1, largest)) * once.operations * LAUNCH,
    )
    said = "" if largest == batch else advice
    return Stage(name, weights, output, batch, memory, flops, seconds, largest, said)


def _tokens(profile: Profile, gpu: GPU) -> Stage:
    """CLIP tokens of all stimuli, into the store."""
    with torch.device("meta"):
        clip: Any = open_clip.CLIP(**profile.clip)
    disk, batch, side = 4 * _weights(clip), 64, profile.clip["vision_cfg"]["image_size"]
    visual = clip.visual.bfloat16()

    @torch.no_grad()
    def encode(device: str) -> None:
        pixels = torch.empty(batch, 3, side, side, dtype=torch.bfloat16, device=device)
        visual.forward_intermediates(pixels, indices=1, intermediates_only=True)

    once = cost(visual, encode)
    output = profile.stimuli * profile.n_tokens * profile.width * 2
    return _stage("tokens", gpu, disk, output, batch, profile.stimuli, once)


def _training(profile: Profile, gpu: GPU, learns: Trained) -> Stage:
    """Stage 2; a linear layer stands for the token decoder, so that tokens ask for gradients."""
    batch = profile.batch
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel(**profile.unet)
        decoder = nn.Linear(profile.width, profile.width)
    disk = 4 * (_weights(unet) + _weights(_vae(profile)))
    forward = _flops(lambda: _predict(unet, batch, profile.latent, profile.n_tokens, "meta"))
    unet = unet if learns == "full" else unet.bfloat16()
    model = Stage2(decoder, unet, Stage2Config(unet=learns)).train()
    generator = torch.Generator()
    with fake_tensors():
        _place(model)
        brain = torch.empty(batch, profile.n_tokens, profile.width)
        latents, time_ids = torch.empty(batch, *profile.latent), vector_condition(batch, (768, 768))

    def loss() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            value: Tensor = model(brain, latents=latents, time_ids=time_ids, generator=generator)
        return value

    counted = count(model, lambda: gradients(model, loss, accumulate=True))
    learned = sum(p.numel() * p.element_size() for p in model.trained())
    held = size(model) + (1 + ADAM_STATES + 1) * learned
    once = Cost(held, counted.memory, counted.operations, PASSES[learns] * forward)
    # Autocast keeps a copy in bfloat16 of each weight that learns, whatever the batch.
    copies = learned // 2
    output = sum(p.numel() * p.element_size() for p in model.unet.parameters() if p.requires_grad)
    images = profile.pairs * profile.epochs
    advice = "no batch fits: train low-rank matrices or the decoder alone, or take a larger GPU"
    name = f"stage 2, {LEARNS[learns]}"
    return _stage(name, gpu, disk, output, batch, images, once, copies, advice)


def _samplings(profile: Profile, gpu: GPU, steps: tuple[int, ...]) -> list[Stage]:
    """Images of the test, by some numbers of guided steps."""
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel(**profile.unet)
    vae, batch, latent = _vae(profile), 32, profile.latent
    disk = 4 * (_weights(unet) + _weights(vae))
    step = cost(
        unet.bfloat16(),
        lambda device: _predict(unet, 2 * batch, latent, profile.n_tokens, device),
    )
    decode = cost(vae.bfloat16(), lambda device: _decode(vae, batch, latent, device))
    side = latent[1] * 2 ** (len(profile.vae["block_out_channels"]) - 1)
    output, images = profile.tested * 3 * side**2, profile.tested
    return [
        _stage(f"sampling, {n} steps", gpu, disk, output, batch, images, _joined(step, decode, n))
        for n in steps
    ]


def _refinement(profile: Profile, gpu: GPU) -> Stage:
    """SDXL's image-to-image, 9 steps; its text encoders are OpenCLIP's of the same names."""
    batch, latent = 4, (4, profile.refined // 8, profile.refined // 8)
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel(**sdxl_unet_config())
        vae: Any = AutoencoderKL(**sdxl_vae_config())
        configs = map(open_clip.get_model_config, ("ViT-L-14", "ViT-bigG-14"))
        clips: list[Any] = [open_clip.CLIP(**config) for config in configs]
    words = 2 * sum(_weights(clip) - _weights(clip.visual) for clip in clips)
    disk = 2 * (_weights(unet) + _weights(vae)) + words
    step = cost(unet.half(), lambda device: _predict(unet, 2 * batch, latent, 77, device))
    decode = cost(vae, lambda device: _decode(vae, batch, latent, device))
    # The way in costs about what the way out does.
    decode = decode._replace(held=decode.held + words, flops=2 * decode.flops)
    output = profile.tested * 3 * profile.refined**2
    once = _joined(step, decode, 9)
    return _stage("refinement", gpu, disk, output, batch, profile.tested, once)


def _joined(step: Cost, decode: Cost, steps: int) -> Cost:
    """A sampling: so many steps, one after the other, and one decoding."""
    return Cost(
        step.held + decode.held,
        max(step.beyond, decode.beyond),
        steps * step.operations + decode.operations,
        steps * step.flops + decode.flops,
    )


@torch.no_grad()
def _predict(unet: Any, rows: int, latent: tuple[int, ...], n_tokens: int, device: str) -> None:
    """One prediction; what SDXL has beside the sizes is the pooled text."""
    config, dtype = unet.config, unet.dtype
    wide, each = config.projection_class_embeddings_input_dim, config.addition_time_embed_dim
    text = 1280 if wide > 4 * each else 0
    conditions = {
        "text_embeds": torch.empty(rows, text, dtype=dtype, device=device),
        "time_ids": torch.empty(rows, (wide - text) // each, device=device),
    }
    unet(
        torch.empty(rows, *latent, dtype=dtype, device=device),
        torch.empty((), device=device),
        torch.empty(rows, n_tokens, config.cross_attention_dim, dtype=dtype, device=device),
        added_cond_kwargs=conditions,
    )


def _decode(vae: Any, batch: int, latent: tuple[int, ...], device: str) -> None:
    decode_latents(vae, torch.empty(batch, *latent, device=device))


def _vae(profile: Profile) -> Any:
    with torch.device("meta"):
        return AutoencoderKL(**profile.vae)


def _flops(run: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as arithmetic:
        run()
    return int(arithmetic.get_total_flops())


def _weights(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())
