"""The tiny VGG: torchvision's VGG16-BN at a quarter of the widths, trained to name objects."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models.vgg import make_layers

from brainit.simulation.scenes import PALETTE, TEXTURES, sprites
from brainit.zoo.data import SceneTable, training_scenes
from brainit.zoo.files import write_model
from brainit.zoo.trainer import Plan, Trainer

IMAGE_SIZE = 64
CHANNELS = ((16, 16), (32, 32), (64, 64, 64), (128, 128, 128), (128, 128, 128))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STEPS = 2_000
BATCH = 64


class TinyVGG(nn.Module):
    """VGG16-BN features with a pooled linear head over 80 sprites, 12 colours and 6 textures.

    Tensor names of `features` are torchvision's.
    """

    def __init__(self, channels: tuple[tuple[int, ...], ...] = CHANNELS) -> None:
        super().__init__()
        layout: list[str | int] = []
        for level in channels:
            layout += [*level, "M"]
        self.features = make_layers(layout, batch_norm=True)
        self.head = nn.Linear(channels[-1][-1], len(sprites()) + len(PALETTE) + len(TEXTURES))

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, 98] of ImageNet-normalised images [B, 3, 64, 64]."""
        logits: Tensor = self.head(self.features(images).mean((2, 3)))
        return logits


def load(folder: Path) -> TinyVGG:
    """The model of a folder, float32, in evaluation mode."""
    config = json.loads((folder / "config.json").read_text())
    model = TinyVGG(tuple(tuple(level) for level in config["channels"]))
    state = load_file(folder / "model.safetensors")
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    return model.eval()


def normalise(images: Tensor) -> Tensor:
    """[B, 3, H, W] in [0, 1] to ImageNet-normalised [B, 3, 64, 64] (antialiased bilinear)."""
    small = F.interpolate(images, size=(IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (MEAN, STD))
    return (small - mean) / std


def classes() -> list[str]:
    """Names of the 98 logits: sprites, colours, textures."""
    return [*(sprite.name for sprite in sprites()), *PALETTE, *TEXTURES]


def targets(table: SceneTable) -> Tensor:
    """Multi-hot targets [N, 98]: sprites from the boxes, colours and textures from the captions."""
    words = [*PALETTE, *TEXTURES]
    result = np.zeros((len(table), len(sprites()) + len(words)), np.float32)
    for row, (objects, caption) in enumerate(zip(table.objects, table.captions, strict=True)):
        result[row, objects[objects[:, 0] >= 0, 0].astype(int)] = 1
        ground = caption.rsplit(" before ", 1)[1].split()
        for column, word in enumerate(words, len(sprites())):
            result[row, column] = word in ground
    return torch.from_numpy(result)


def train(output: Path, seed: int = 0, steps: int = STEPS, resume: bool = True) -> Path:
    """Train and write `output/vgg`.

    Args:
        output: Folder of the models; scenes and checkpoints go under `output/work`.
        seed: Seed of weights and batches.
        steps: Optimiser steps.
        resume: Continue from the last checkpoint.

    Returns:
        The model's folder.
    """
    table = training_scenes(output / "work" / "scenes")
    labels = targets(table)
    torch.manual_seed(seed)
    model = TinyVGG().to(memory_format=torch.channels_last)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
    # The bias starts at the classes' frequencies, which spares the first hundreds of steps.
    with torch.no_grad():
        model.head.bias.copy_(torch.logit(labels.mean(0).clamp(1e-4, 1 - 1e-4)))

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(table), (BATCH,), generator=generator)
        images = normalise(table.batch(rows.numpy()))
        flip = torch.rand(BATCH, 1, 1, 1, generator=generator) < 0.5
        images = torch.where(flip, images.flip(3), images).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images)
        loss = F.binary_cross_entropy_with_logits(logits.float(), labels[rows], reduction="none")
        return loss.sum(1).mean()

    plan = Plan(steps, rate=2e-3, weight_decay=0.05, clip=5.0, seed=seed)
    Trainer(model, loss_of, plan, output / "work" / "vgg").fit(resume)
    return write_vgg(model, output / "vgg")


def write_vgg(model: TinyVGG, folder: Path) -> Path:
    """Write `model.safetensors` (float16) and `config.json`."""
    config = {
        "architecture": "vgg16_bn",
        "channels": CHANNELS,
        "image_size": IMAGE_SIZE,
        "mean": MEAN,
        "std": STD,
        "classes": classes(),
    }
    return write_model(folder, "model.safetensors", model.state_dict(), {"config.json": config})
