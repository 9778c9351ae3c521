"""How good a tiny model is on scenes it never saw (seeds from `data.FRESH_FIRST` on)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from brainit.simulation.scenes import sprites
from brainit.zoo import clip as clip_recipe
from brainit.zoo import unet as unet_recipe
from brainit.zoo import vgg as vgg_recipe
from brainit.zoo.data import SceneTable, scene_table
from brainit_diffusion import UnCLIP


@torch.no_grad()
def vgg_accuracy(folder: Path, seeds: Sequence[int]) -> float:
    """Fraction of scenes whose highest sprite logit names an object that is in the scene."""
    table = scene_table(seeds)
    model = vgg_recipe.load(folder)
    logits = model(vgg_recipe.normalise(_images(table)))[:, : len(sprites())]
    return float(vgg_recipe.targets(table)[torch.arange(len(table)), logits.argmax(1)].mean())


@torch.no_grad()
def clip_zero_shot(folder: Path, seeds: Sequence[int]) -> float:
    """Fraction of scenes whose best of 80 sentences ("a NAME") names an object in the scene."""
    table = scene_table(seeds)
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    model.eval()
    text = model.encode_text(tokenizer([f"a {sprite.name}" for sprite in sprites()]))
    image = model.encode_image(clip_recipe.normalise(_images(table)))
    best = (F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T).argmax(1)
    return float(vgg_recipe.targets(table)[torch.arange(len(table)), best].mean())


@torch.no_grad()
def clip_retrieval(folder: Path, seeds: Sequence[int]) -> float:
    """Fraction of scenes whose own caption is the nearest of the captions of all scenes given."""
    table = scene_table(seeds)
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    text = F.normalize(model.encode_text(tokenizer(table.captions)), dim=-1)
    image = F.normalize(model.encode_image(clip_recipe.normalise(_images(table))), dim=-1)
    return float(((image @ text.T).argmax(1) == torch.arange(len(table))).float().mean())


@torch.no_grad()
def vae_psnr(folder: Path, seeds: Sequence[int]) -> float:
    """Mean over scenes of the peak signal-to-noise ratio, in dB, of encoding and decoding."""
    images = _images(scene_table(seeds))
    vae = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32).eval()
    answer = torch.cat(
        [vae.decode(vae.encode(part * 2 - 1).latent_dist.mean).sample for part in images.split(16)]
    )
    error = ((answer / 2 + 0.5).clamp(0, 1) - images).square().mean((1, 2, 3))
    return float((-10 * error.log10()).mean())


@torch.no_grad()
def unclip_two_way(
    models: Path, seeds: Sequence[int], steps: int = 20, guidance: float = 3.0
) -> float:
    """Two-way identification of images made from the true tokens of fresh scenes, 0.5 being chance.

    For each pair of scenes: is the image made for one nearer to its own scene than to the other, by
    correlation of CLIP's image embeddings?

    Args:
        models: Folder of `clip`, `vae`, `unet` and `scheduler`.
        seeds: Seeds of the scenes; also those of the start noise.
        steps: Euler steps.
        guidance: Scale of classifier-free guidance.
    """
    table = scene_table(seeds)
    eye = open_clip.create_model(f"local-dir:{models / 'clip'}").eval()
    tokens = unet_recipe.encode_tokens(table, eye).float()
    made = UnCLIP.load(models).generate(
        tokens, steps=steps, guidance_scale=guidance, seeds=list(seeds)
    )
    first, second = (
        eye.encode_image(clip_recipe.normalise(images)).numpy() for images in (made, _images(table))
    )
    count = len(table)
    similar = np.corrcoef(first, second)[:count, count:]
    return float((similar < np.diag(similar)[:, None]).sum() / (count * (count - 1)))


def _images(table: SceneTable) -> Tensor:
    return table.batch(np.arange(len(table)))
