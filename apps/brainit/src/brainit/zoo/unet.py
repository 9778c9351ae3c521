"""The tiny unCLIP UNet: SDXL's kind of UNet, denoising latents given CLIP's patch tokens."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, EulerDiscreteScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from brainit.simulation.scenes import IMAGE_SIZE
from brainit.zoo.clip import WIDTH, normalise, patch_tokens
from brainit.zoo.data import FRESH_FIRST, SceneTable, scene_table, training_scenes
from brainit.zoo.files import find_model, fingerprint, save_half
from brainit.zoo.guide import Guide
from brainit.zoo.trainer import Plan, Trainer

STEPS = 2_150
BATCH = 64
SHARDS = 2
SHOW_EVERY = 1_250
DROP = 0.1
NOISY = 0.3
NOISE_OFFSET = 0.04
GUIDE, GUIDE_AFTER = 0.04, 1_000
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def build() -> Any:
    """A new UNet over 12 x 12 x 8 latents, cross-attending to 64 tokens of 128.

    The vector condition is original size and crop alone (4 numbers, 32 sinusoids each); the pooled
    text that SDXL adds has width zero.
    """
    return UNet2DConditionModel(
        sample_size=12,
        in_channels=8,
        out_channels=8,
        block_out_channels=(96, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=1,
        attention_head_dim=(3, 4),  # heads: diffusers keeps the misnomer
        norm_num_groups=8,
        cross_attention_dim=WIDTH,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=128,
    )


def conditions(count: int) -> dict[str, Tensor]:
    """The vector condition: original height and width 96, crop at the corner, no text."""
    ids = torch.tensor([IMAGE_SIZE, IMAGE_SIZE, 0, 0], dtype=torch.float32)
    return {"time_ids": ids.expand(count, 4), "text_embeds": torch.zeros(count, 0)}


def diffusion_loss(
    unet: Any, latents: Tensor, tokens: Tensor, generator: torch.Generator
) -> Tensor:
    """Mean squared error of the predicted noise, with offset noise and spoilt or dropped tokens.

    Args:
        unet: Model.
        latents: Scaled latents [B, 8, 12, 12].
        tokens: Patch tokens [B, 64, 128] of standard deviation about one.
        generator: Source of noise, times and dropping.
    """
    count = len(latents)
    noise = torch.randn(latents.shape, generator=generator)
    noise += NOISE_OFFSET * torch.randn(count, latents.shape[1], 1, 1, generator=generator)
    times = torch.randint(1000, (count,), generator=generator)
    scheduler: Any = DDPMScheduler(**BETAS)
    noisy = scheduler.add_noise(latents, noise, times)
    # Of torch's attentions on a CPU the plain one has by far the fastest backward in bfloat16.
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        answer = unet(
            noisy, times, spoil(tokens, generator), added_cond_kwargs=conditions(count)
        ).sample
    return F.mse_loss(answer.float(), noise)


def spoil(tokens: Tensor, generator: torch.Generator) -> Tensor:
    """Tokens as a decoder will give them: a third with added noise, a tenth wholly random.

    The random ones are the unconditional input of classifier-free guidance.
    """
    draw = torch.rand(2, len(tokens), 1, 1, generator=generator)
    level = 0.5 * torch.rand(len(tokens), 1, 1, generator=generator) * (draw[0] < NOISY)
    tokens = tokens + level * torch.randn(tokens.shape, generator=generator)
    return torch.where(draw[1] < DROP, torch.randn(tokens.shape, generator=generator), tokens)


@torch.no_grad()
def sample(
    unet: Any,
    tokens: Tensor,
    steps: int = 20,
    guidance: float = 3.0,
    seed: int = 0,
) -> Tensor:
    """Scaled latents [B, 8, 12, 12] drawn by Euler steps under classifier-free guidance."""
    generator = torch.Generator().manual_seed(seed)
    scheduler: Any = EulerDiscreteScheduler(**BETAS)
    scheduler.set_timesteps(steps)
    size = unet.config.sample_size
    shape = (len(tokens), unet.config.in_channels, size, size)
    latents: Tensor = torch.randn(shape, generator=generator) * scheduler.init_noise_sigma
    empty = torch.randn(tokens.shape, generator=generator)
    for time in scheduler.timesteps:
        twice = scheduler.scale_model_input(torch.cat([latents, latents]), time)
        answer = unet(
            twice, time, torch.cat([empty, tokens]), added_cond_kwargs=conditions(len(twice))
        ).sample
        without, with_tokens = answer.chunk(2)
        guided = without + guidance * (with_tokens - without)
        latents = scheduler.step(guided, time, latents).prev_sample
    return latents


@torch.no_grad()
def decode(vae: Any, latents: Tensor) -> Tensor:
    """Scaled latents to images in [0, 1] [B, 3, 96, 96]."""
    images: Tensor = vae.decode(latents / vae.config.scaling_factor).sample
    return (images / 2 + 0.5).clamp(0, 1)


def encode_latents(table: SceneTable, vae: Any, file: Path | None = None) -> Tensor:
    """Scaled latent means of scenes [N, 8, 12, 12], float16; see `_in_parts` for `file`."""
    factor = vae.config.scaling_factor
    return _in_parts(table, lambda x: vae.encode(x * 2 - 1).latent_dist.mean * factor, file)


def encode_tokens(table: SceneTable, clip: open_clip.CLIP, file: Path | None = None) -> Tensor:
    """Patch tokens of scenes [N, 64, 128], float16; see `_in_parts` for `file`."""
    return _in_parts(table, lambda x: patch_tokens(clip.visual, normalise(x)), file)


def _in_parts(table: SceneTable, code: Callable[[Tensor], Tensor], file: Path | None) -> Tensor:
    """Code all images, in parts; kept in the .npy `file` if one is given, and read if it exists."""
    if file is not None and file.exists():
        return torch.from_numpy(np.load(file))

    @torch.no_grad()
    def part(rows: NDArray[np.int64]) -> Tensor:
        return code(table.batch(rows)).half()

    parts = np.array_split(np.arange(len(table)), -(-len(table) // 32))
    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        result = torch.cat(list(pool.map(part, parts)))
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".tmp.npy")
        np.save(temporary, result.numpy())
        os.replace(temporary, file)
    return result


def train(output: Path, seed: int = 0, steps: int = STEPS, resume: bool = True) -> Path:
    """Train and write `output/unet`; needs CLIP and VAE. See `brainit.zoo.recipes.train`."""
    work = output / "work" / "unet"
    clip, vae = load_eyes(output)
    table = training_scenes(output / "work" / "scenes")
    # Named after the model's weights, so that a model trained anew is not met by old values.
    marks = {name: fingerprint(find_model(output, name)) for name in ("clip", "vae")}
    tokens = encode_tokens(table, clip, work / f"tokens-{marks['clip']}.npy")
    latents = encode_latents(table, vae, work / f"latents-{marks['vae']}.npy")
    fresh = scene_table(range(FRESH_FIRST, FRESH_FIRST + 16))
    torch.manual_seed(seed)
    unet = build()
    guide = Guide(unet)

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(latents), (BATCH // SHARDS,), generator=generator)
        loss = diffusion_loss(unet, latents[rows].float(), tokens[rows].float(), generator)
        far = guide.take()
        return loss + GUIDE * far if trainer.step >= GUIDE_AFTER else loss

    def show(trainer: Trainer) -> None:
        if trainer.step % SHOW_EVERY:
            return
        averaged = build().eval()
        averaged.load_state_dict(trainer.averaged())
        draw_grid(averaged, clip, vae, fresh, work / "samples.png")

    plan = Plan(steps, rate=8e-4, warmup=200, seed=seed, ema=0.999, shards=SHARDS)
    trainer = Trainer(unet, loss_of, plan, work)
    trainer.fit(resume, show)
    final = build()
    final.load_state_dict(trainer.averaged())
    return save_half(final, output / "unet")


def load_eyes(output: Path) -> tuple[open_clip.CLIP, Any]:
    """CLIP and VAE, float32, in evaluation mode, trained under `output` or shipped."""
    clip = open_clip.create_model(f"local-dir:{find_model(output, 'clip')}").eval()
    vae = AutoencoderKL.from_pretrained(find_model(output, "vae"), torch_dtype=torch.float32)
    return clip, vae.eval()


def draw_grid(
    unet: Any,
    clip: open_clip.CLIP,
    vae: Any,
    table: SceneTable,
    path: Path,
) -> None:
    """A picture: scenes, their autoencodings, and two rows that the UNet makes of their tokens."""
    latents, tokens = encode_latents(table, vae), encode_tokens(table, clip)
    rows = [
        table.batch(np.arange(len(table))),
        decode(vae, latents.float()),
        *(decode(vae, sample(unet, tokens.float(), seed=seed)) for seed in (0, 1)),
    ]
    picture = torch.cat([torch.cat(list(row), 2) for row in rows], 1)
    array = (picture.permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(array).save(path)
