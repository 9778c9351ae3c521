"""Images from VGG feature maps by Deep Image Prior, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import cos, pi
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from brainit_dip.skip_network import SkipConfig, SkipNetwork
from brainit_dip.vgg import VGGFeatures


@dataclass(frozen=True)
class InversionConfig:
    """How images are found; the defaults are those of Brain-IT (arXiv 2510.25976).

    Attributes:
        image_size: Side in pixels of the noise and of the image; a multiple of 2^scales.
        network: Size of the skip network.
        steps: Optimiser steps.
        lr: Learning rate of Adam.
        schedule: "constant", or "cosine" from `lr` to zero.
        noise: The fixed input is uniform in [0, noise].
        jitter: Standard deviation of the normal noise added to the input anew at each step.
        average_decay: The answer is the running average of the outputs with this decay per step,
            bias-corrected: the weights of the outputs sum to one after any number of steps.
        level_weights: Weights of the levels' losses, normalised to sum to one; None is the mean.
        precision: "bfloat16" runs network and VGG under autocast.
        batch_size: Images optimised side by side; changes time and memory, not the images.
    """

    image_size: int = 224
    network: SkipConfig = field(default_factory=SkipConfig)
    steps: int = 1800
    lr: float = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    noise: float = 0.1
    jitter: float = 1 / 30
    average_decay: float = 0.99
    level_weights: tuple[float, ...] | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    batch_size: int = 1

    def __post_init__(self) -> None:
        """Raise ValueError for settings out of range."""
        if min(self.steps, self.batch_size, self.image_size) < 1 or self.lr <= 0:
            raise ValueError("image_size, steps, lr and batch_size: expected values above zero")
        if not 0 <= self.average_decay < 1:
            raise ValueError(f"average_decay: expected [0, 1), got {self.average_decay}")
        if self.schedule not in ("constant", "cosine"):
            raise ValueError(f"schedule: expected constant or cosine, got {self.schedule!r}")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision: expected float32 or bfloat16, got {self.precision!r}")

    @classmethod
    def reference(cls) -> InversionConfig:
        """The published settings; about half an hour an image on two CPU cores."""
        return cls()

    @classmethod
    def tiny(cls) -> InversionConfig:
        """For a quarter-width VGG at 64 px: a coarse image of 32 px in 100 short steps.

        Chosen on rendered scenes with true and with corrupted features. Jitter is a third of the
        published one: in so few steps the full jitter hides the fixed input.
        """
        return cls(
            image_size=32,
            network=SkipConfig(16, (32, 32, 32), (32, 32, 32), (4, 4, 4)),
            steps=100,
            lr=1e-2,
            schedule="cosine",
            jitter=0.01,
            average_decay=0.9,
            batch_size=8,
        )


class InversionResult(NamedTuple):
    """Images [B, 3, S, S] in [0, 1], float32, and the loss of every step and image, [steps, B]."""

    images: Tensor
    loss: Tensor


def invert(
    maps: Sequence[Tensor],
    vgg: VGGFeatures,
    config: InversionConfig,
    seeds: Sequence[int],
    progress: bool = False,
) -> InversionResult:
    """Find the images whose VGG features are nearest to given ones.

    Each image has a skip network, a noise input and jitter of its own, all drawn from its own seed,
    so that its result does not depend (but for rounding) on the images beside it. The loss is the
    mean over the levels of the mean squared error to the target maps.

    Args:
        maps: Target maps, one [B, C, h, w] per level, in the layout of `vgg`.
        vgg: A frozen network (`load_vgg`); its device and dtype are those of the computation.
        config: Settings.
        seeds: One seed per image.
        progress: Show a progress bar.

    Returns:
        Images and losses, on the device of `vgg`.

    Raises:
        ValueError: If maps have a wrong shape or are not finite, or seeds or weights do not fit.
    """
    _check(maps, vgg, config, seeds)
    results = []
    with tqdm(total=len(seeds) * config.steps, disable=not progress, unit="step") as bar:
        for first in range(0, len(seeds), config.batch_size):
            chunk = slice(first, first + config.batch_size)
            targets = [x[chunk].to(vgg.mean) for x in maps]
            results.append(_invert_chunk(targets, vgg, config, seeds[chunk], bar))
    images, losses = zip(*results, strict=True)
    return InversionResult(torch.cat(images), torch.cat(losses, dim=1))


def _invert_chunk(
    targets: list[Tensor],
    vgg: VGGFeatures,
    config: InversionConfig,
    seeds: Sequence[int],
    bar: tqdm[None],
) -> tuple[Tensor, Tensor]:
    """Images [n, 3, S, S] and losses [steps, n] of one batch."""
    device = vgg.mean.device
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    network = SkipNetwork(config.network, generators).to(vgg.mean)
    shape = (config.network.input_channels, config.image_size, config.image_size)
    fixed = _draw(torch.rand, shape, generators).to(vgg.mean) * config.noise
    optimiser = torch.optim.Adam(network.parameters(), lr=config.lr, fused=True)
    weights = _level_weights(config, len(targets)).to(vgg.mean)
    average, losses, decay = torch.zeros(()), [], config.average_decay
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16")
    for step in range(config.steps):
        noise = fixed + _draw(torch.randn, shape, generators).to(vgg.mean) * config.jitter
        for group in optimiser.param_groups:
            group["lr"] = config.lr * _factor(config, step)
        optimiser.zero_grad()
        with autocast:
            images = network(noise)
            errors = [_mse(x, y) for x, y in zip(vgg(images), targets, strict=True)]
        loss = weights @ torch.stack(errors)
        loss.sum().backward()
        optimiser.step()
        losses.append(loss.detach())
        average = decay * average + (1 - decay) * images.detach()
        bar.update(len(seeds))
    return average / (1 - decay**config.steps), torch.stack(losses)


def _mse(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error of each image, [n], in the targets' precision."""
    return (x.to(y.dtype) - y).square().flatten(1).mean(1)


def _draw(
    sample: Callable[..., Tensor], shape: tuple[int, ...], generators: Sequence[torch.Generator]
) -> Tensor:
    """Random values [n, *shape], row i from generator i, always drawn on the CPU in float32."""
    return torch.stack([sample(shape, generator=g) for g in generators])


def _factor(config: InversionConfig, step: int) -> float:
    """Learning rate of a step, relative to `config.lr`."""
    return 1.0 if config.schedule == "constant" else (1 + cos(pi * step / config.steps)) / 2


def _level_weights(config: InversionConfig, n_levels: int) -> Tensor:
    weights = torch.tensor(config.level_weights or (1.0,) * n_levels)
    return weights / weights.sum()


def _check(
    maps: Sequence[Tensor], vgg: VGGFeatures, config: InversionConfig, seeds: Sequence[int]
) -> None:
    """Raise ValueError for maps that are no targets of `vgg`, or a wrong number of weights."""
    expected = [(len(seeds), *shape) for shape in vgg.map_shapes()]
    found = [tuple(x.shape) for x in maps]
    if not seeds or found != expected:
        raise ValueError(f"maps: expected {expected} for {len(seeds)} seeds, got {found}")
    for level, x in enumerate(maps, start=1):
        if not x.isfinite().all():
            raise ValueError(f"maps: level {level} holds NaN or infinite values")
    if config.level_weights is not None and len(config.level_weights) != len(maps):
        raise ValueError(f"level_weights: expected {len(maps)}, got {len(config.level_weights)}")
