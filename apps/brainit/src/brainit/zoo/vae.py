"""The tiny VAE: a diffusers AutoencoderKL, 96 px images to 12 x 12 x 8 latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from brainit.simulation.scenes import IMAGE_SIZE
from brainit.zoo import vgg
from brainit.zoo.data import training_scenes
from brainit.zoo.files import find_model, save_half
from brainit.zoo.trainer import Plan, Trainer

STEPS = 2_700
BATCH = 16
SHARDS = 2
CROP = 64
WHOLE = 0.1
START_LOG_VARIANCE = -6.0
LEVELS = (5, 12, 22)
SQUARED, PERCEPTUAL, KL = 3.0, 0.1, 1e-6


def build() -> Any:
    """A new autoencoder: four levels, eight latent channels, shrinking each side eightfold.

    Two norm groups, because torch's group norm is slow on a CPU where a group has few channels.
    """
    model: Any = AutoencoderKL(
        block_out_channels=(16, 32, 64, 96),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=2,
        sample_size=IMAGE_SIZE,
    )
    # From a log-variance of zero the noise would drown the latents for most of so short a training.
    with torch.no_grad():
        model.quant_conv.bias[8:] = START_LOG_VARIANCE
    return model


class Perceptual(nn.Module):
    """Distance of two images in the first three levels of the tiny VGG."""

    def __init__(self, model: vgg.TinyVGG) -> None:
        super().__init__()
        self.layers = model.features[: LEVELS[-1] + 1].eval().requires_grad_(False)
        self.mean, self.std = (torch.tensor(v).view(3, 1, 1) for v in (vgg.MEAN, vgg.STD))

    def forward(self, answer: Tensor, truth: Tensor) -> Tensor:
        """Mean over levels of the absolute difference over the truth's spread; images in [0, 1]."""
        result = torch.zeros(())
        pair = [(x - self.mean) / self.std for x in (answer, truth)]
        for index, layer in enumerate(self.layers):
            with torch.no_grad():
                pair[1] = layer(pair[1])
            pair[0] = layer(pair[0])
            if index in LEVELS:
                spread = pair[1].float().std()
                result = result + F.l1_loss(pair[0].float(), pair[1].float()) / spread
        return result / len(LEVELS)


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flipped at random, and most often cropped to 64 px, which costs less than half."""
    flip = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    images = torch.where(flip, images.flip(3), images)
    if torch.rand(1, generator=generator) < WHOLE:
        return images
    top, left = torch.randint(IMAGE_SIZE - CROP + 1, (2,), generator=generator).tolist()
    return images[..., top : top + CROP, left : left + CROP]


def train(output: Path, seed: int = 0, steps: int = STEPS, resume: bool = True) -> Path:
    """Train and write `output/vae`; needs a tiny VGG. See `brainit.zoo.recipes.train`."""
    table = training_scenes(output / "work" / "scenes")
    perceptual = Perceptual(vgg.load(find_model(output, "vgg")))
    perceptual = perceptual.to(memory_format=torch.channels_last)
    torch.manual_seed(seed)
    model = build().to(memory_format=torch.channels_last)

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(table), (BATCH // SHARDS,), generator=generator)
        images = augmented(table.batch(rows.numpy()), generator)
        images = images.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):  # see the UNet's
            posterior = model.encode(images * 2 - 1).latent_dist
            answer = model.decode(posterior.sample(generator)).sample / 2 + 0.5
            features = perceptual(answer, images)
        gap = answer.float() - images
        fidelity = gap.abs().mean() + SQUARED * gap.square().mean()
        loss: Tensor = fidelity + PERCEPTUAL * features + KL * posterior.kl().float().mean()
        return loss

    plan = Plan(
        steps, rate=1.5e-3, warmup=50, weight_decay=0.0, seed=seed, ema=0.995, shards=SHARDS
    )
    trainer = Trainer(model, loss_of, plan, output / "work" / "vae")
    trainer.fit(resume)
    model.load_state_dict(trainer.averaged())
    return write_vae(model, table.batch(np.arange(512)), output / "vae")


@torch.no_grad()
def write_vae(model: Any, images: Tensor, folder: Path) -> Path:
    """Write the autoencoder with the scaling factor that gives its latents standard deviation one.

    Args:
        model: Trained autoencoder.
        images: Images in [0, 1] that the spread is measured on.
        folder: Where `save_pretrained` writes.
    """
    model.eval()
    latents = torch.cat([model.encode(part * 2 - 1).latent_dist.mean for part in images.split(32)])
    model.register_to_config(scaling_factor=round(float(1 / latents.std()), 5))
    return save_half(model, folder)
