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
from diffusers import AutoencoderKL, UNet2DConditionModel
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from brainit.simulation.scenes import IMAGE_SIZE
from brainit.zoo.clip import WIDTH, normalise, patch_tokens
from brainit.zoo.data import FRESH_FIRST, SceneTable, scene_table, training_scenes
from brainit.zoo.decoded import DecodedTokens
from brainit.zoo.files import find_model, fingerprint, save_half
from brainit.zoo.guide import Guide
from brainit.zoo.trainer import Plan, Trainer
from brainit_diffusion import UnCLIP, denoising_loss, euler_scheduler, vector_condition

STEPS = 7_000
BATCH = 64
SHARDS = 2
SHOW_EVERY = 1_000
DROP = 0.1
GUIDE = 0.04
PREDICTION = "v_prediction"


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
    decoded = DecodedTokens.fit(tokens[:4_000])
    fresh = scene_table(range(FRESH_FIRST, FRESH_FIRST + 16))
    torch.manual_seed(seed)
    unet = build()
    guide = Guide(unet)

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(latents), (BATCH // SHARDS,), generator=generator)
        seen = decoded.draw(tokens[rows].float(), generator)
        # The shards' threads would empty each other's cache of cast weights.
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            loss = denoising_loss(
                unet,
                latents[rows].float(),
                seen,
                vector_condition(len(rows), (IMAGE_SIZE, IMAGE_SIZE)),
                generator,
                dropout=DROP,
                prediction_type=PREDICTION,
            )
        return loss + GUIDE * guide.take()

    def show(trainer: Trainer) -> None:
        if trainer.step % SHOW_EVERY:
            return
        averaged = build()
        averaged.load_state_dict(trainer.averaged())
        draw_grid(unclip(vae, averaged), clip, fresh, work / "samples.png")

    plan = Plan(steps, rate=8e-4, warmup=200, seed=seed, ema=0.999, shards=SHARDS)
    trainer = Trainer(unet, loss_of, plan, work)
    # Of torch's attentions on a CPU the plain one has by far the fastest backward in bfloat16.
    with sdpa_kernel(SDPBackend.MATH):
        trainer.fit(resume, show)
    final = build()
    final.load_state_dict(trainer.averaged())
    scheduler: Any = euler_scheduler(PREDICTION)  # what it can do is added at run time
    scheduler.save_pretrained(output / "scheduler")
    return save_half(final, output / "unet")


def unclip(vae: Any, unet: Any) -> UnCLIP:
    """Both as one model that generates."""
    return UnCLIP(vae, unet, scheduler=euler_scheduler(PREDICTION))


def load_eyes(output: Path) -> tuple[open_clip.CLIP, Any]:
    """CLIP and VAE, float32, in evaluation mode, trained under `output` or shipped."""
    clip = open_clip.create_model(f"local-dir:{find_model(output, 'clip')}").eval()
    vae = AutoencoderKL.from_pretrained(find_model(output, "vae"), torch_dtype=torch.float32)
    return clip, vae.eval()


def draw_grid(model: UnCLIP, clip: open_clip.CLIP, table: SceneTable, path: Path) -> None:
    """A picture: scenes, their autoencodings, and two rows that the UNet makes of their tokens."""
    images = table.batch(np.arange(len(table)))
    tokens = encode_tokens(table, clip).float()
    seeds = range(len(table))
    rows = [
        images,
        model.decode(model.encode(images)),
        *(model.generate(tokens, steps=20, guidance_scale=scale, seeds=seeds) for scale in (1, 3)),
    ]
    picture = torch.cat([torch.cat(list(row), 2) for row in rows], 1)
    array = (picture.permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(array).save(path)
