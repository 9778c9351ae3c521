"""Fixtures: a VGG with random weights and batch statistics of its own, and smooth images."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from brainit_dip import VGGFeatures


@pytest.fixture
def images() -> Tensor:
    """Three smooth colour images, [3, 3, 32, 32] in [0, 1]."""
    coarse = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return F.interpolate(coarse, size=(32, 32), mode="bilinear")


@pytest.fixture
def trainable_vgg(images: Tensor) -> VGGFeatures:
    """Four stages, 32 px, random weights, running statistics of the images; not folded."""
    vgg = VGGFeatures([[8, 8], [12, 12], [16, 16, 16], [16]], image_size=32)
    generator = torch.Generator().manual_seed(1)
    for layer in vgg.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # cumulative average: one pass sets the statistics
            nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(layer.bias, 0, 0.3, generator=generator)
    vgg.train()
    with torch.no_grad():
        vgg(images)
    return vgg.eval()


@pytest.fixture
def vgg(trainable_vgg: VGGFeatures) -> VGGFeatures:
    """The same, frozen."""
    return trainable_vgg.freeze()
