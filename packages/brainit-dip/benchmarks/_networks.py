"""The two VGGs that are measured: small with trained weights, paper-size with random ones."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from brainit_dip import VGGFeatures, load_vgg

ROOT = Path(__file__).resolve().parents[3]
TINY = ROOT / "apps" / "brainit" / "src" / "brainit" / "assets" / "models" / "vgg"
WIDTHS = ([64, 64], [128, 128], [256] * 3, [512] * 3, [512] * 3)
KINDS = {
    "tiny": "VGG16-BN at quarter width, 64 px, trained on rendered scenes (the demo's)",
    "random": "VGG16-BN at full width, 112 px, RANDOM weights (He), statistics of pictures",
    "vgg16_bn": "VGG16-BN as published, 112 px, ImageNet weights of torchvision",
}


def network(kind: str, pictures: Tensor, seed: int = 0) -> VGGFeatures:
    """A frozen VGG of `KINDS`; `pictures` set the batch statistics of random weights."""
    if kind == "random":
        return _random(pictures, seed)
    return load_vgg(TINY if kind == "tiny" else kind)


def _random(pictures: Tensor, seed: int) -> VGGFeatures:
    vgg = VGGFeatures(WIDTHS, image_size=112)
    generator = torch.Generator().manual_seed(seed)
    for layer in vgg.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", generator=generator)
            nn.init.zeros_(layer.bias)
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # a cumulative mean: one pass sets the statistics
    vgg.train()
    with torch.no_grad():
        vgg(pictures)
    return vgg.freeze()
