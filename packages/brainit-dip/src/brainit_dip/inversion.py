"""Images from VGG feature maps by Deep Image Prior, many at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from brainit_dip.config import InversionConfig
from brainit_dip.descent import Descent
from brainit_dip.objective import Objective
from brainit_dip.vgg import VGGFeatures
from brainit_dip.vgg_tokens import VGGTokens


class InversionResult(NamedTuple):
    """What an inversion found.

    Attributes:
        images: [B, 3, S, S] in [0, 1], float32.
        loss: Loss of every step and image, [steps, B]; NaN from where an image stopped early.
    """

    images: Tensor
    loss: Tensor

    @property
    def steps(self) -> Tensor:
        """Steps that each image took, int64 [B]."""
        return (~self.loss.isnan()).sum(0)


class Progress(NamedTuple):
    """A batch on its way, as a callback sees it after each step.

    Attributes:
        rows: Which of the call's images are still in the batch.
        step: Steps taken, from 1.
        images: Their answers if they stopped here, [n, 3, S, S] in [0, 1].
        loss: Their losses at this step, [n].
    """

    rows: list[int]
    step: int
    images: Tensor
    loss: Tensor


Callback = Callable[[Progress], None]


def invert(
    targets: Tensor | Sequence[Tensor],
    vgg: VGGFeatures,
    config: InversionConfig | None = None,
    seeds: Sequence[int] | int = 0,
    progress: bool = False,
    *,
    token_weights: Tensor | None = None,
    start: Tensor | None = None,
    callback: Callback | None = None,
) -> InversionResult:
    """Find the images whose VGG features are nearest to given ones.

    Each image has a skip network, a noise input and jitter of its own, all drawn from its own seed,
    so that its result does not depend (but for rounding) on the images beside it. The loss is the
    mean over the levels of the mean squared error to the target maps.

    Args:
        targets: Tokens [B, n_tokens, token_dim] as `VGGTokens` packs them, or target maps, one
            [B, C, h, w] per level, in the layout of `vgg`.
        vgg: A frozen network (`load_vgg`); its device and dtype are those of the computation.
        config: Settings; None is the preset `fast`.
        seeds: One seed per image; of a single number s, image i has s + i.
        progress: Show a progress bar.
        token_weights: How much each token counts within its level, [n_tokens] or [B, n_tokens];
            see `TokenReliability`.
        start: Images [B, 3, H, W] in [0, 1] to start from, such as an `Inverter`'s.
        callback: Called after each step of each batch.

    Returns:
        Images and losses, on the device of `vgg`.

    Raises:
        ValueError: If targets, weights or start have a wrong shape or are not finite, or seeds or
            weights do not fit.
    """
    config = config or InversionConfig.named("fast")
    maps = VGGTokens.of(vgg).unpack(targets) if isinstance(targets, Tensor) else list(targets)
    if isinstance(seeds, int):
        seeds = range(seeds, seeds + len(maps[0]) if maps else seeds)
    _check(maps, vgg, config, seeds)
    positions = _position_weights(token_weights, vgg, len(seeds))
    start = _resized(start, config.image_size or vgg.image_size, len(seeds))
    readout = _readout(vgg, config)
    results = []
    with tqdm(total=len(seeds) * config.steps, disable=not progress, unit="step") as bar:
        for first in range(0, len(seeds), config.batch_size):
            rows = range(len(seeds))[first : first + config.batch_size]
            chunk = slice(rows.start, rows.stop)
            objective = Objective(
                [x[chunk].to(vgg.mean) for x in maps],
                config.level_weights,
                [w[chunk] for w in positions],
            )
            begun = None if start is None else start[chunk]
            descent = Descent(objective, readout, config, seeds[chunk], begun)
            results.append(_run(descent, rows, callback, bar))
    images, losses = zip(*results, strict=True)
    return InversionResult(torch.cat(images), torch.cat(losses, dim=1))


def recover(
    images: Tensor,
    vgg: VGGFeatures,
    config: InversionConfig | None = None,
    seeds: Sequence[int] | int = 0,
    progress: bool = False,
) -> InversionResult:
    """Invert the true features of images: what inversion alone loses, whatever a decoder adds.

    Args:
        images: [B, 3, H, W] in [0, 1].
        vgg: As for `invert`, as are the others.
        config: Settings; None is the preset `fast`.
        seeds: One seed per image, or the first of them.
        progress: Show a progress bar.
    """
    with torch.no_grad():
        maps = vgg(images.to(vgg.mean))
    return invert(maps, vgg, config, seeds, progress)


def _run(
    descent: Descent, rows: Sequence[int], callback: Callback | None, bar: tqdm[None]
) -> tuple[Tensor, Tensor]:
    """Images [n, 3, S, S] and losses [steps, n] of one batch."""
    config, numbers = descent.config, list(rows)
    images = torch.zeros_like(descent.average)
    active = torch.arange(len(rows), device=images.device)  # an index of the host's would wait
    losses = images.new_full((config.steps, len(rows)), torch.nan)
    for step in range(1, config.steps + 1):
        descent.step()
        losses[step - 1, active] = descent.losses
        bar.update(len(numbers))
        if callback:
            callback(Progress(list(numbers), step, descent.images, descent.losses.clone()))
        if config.stop_window and step % config.stop_window == 0:
            going = ~_level(losses[:step, active], config.stop_window, config.stop_tolerance)
            if not going.all():
                images[active[~going]] = descent.images[~going]
                active = active[going]
                numbers = [n for n, goes in zip(numbers, going.tolist(), strict=True) if goes]
                if not numbers:
                    return images, losses
                descent.keep(going)
    images[active] = descent.images
    return images, losses


def _level(losses: Tensor, window: int, tolerance: float) -> Tensor:
    """Whether each column's last window is hardly below the one before, bool [n] on the CPU."""
    if len(losses) < 2 * window:
        return torch.zeros(losses.shape[1], dtype=torch.bool)
    before, last = losses[-2 * window :].unflatten(0, (2, window)).mean(1)
    hardly: Tensor = last > (1 - tolerance) * before
    return hardly.cpu()


def _readout(vgg: VGGFeatures, config: InversionConfig) -> VGGFeatures:
    """The VGG as autocast would cast it at every step, cast once; laid out as configured."""
    readout = copy.deepcopy(vgg)
    for layer in readout.features:
        if isinstance(layer, nn.Conv2d):
            if config.in_bfloat16(vgg.mean.device):
                layer.to(torch.bfloat16)
            if config.channels_last:
                layer.to(memory_format=torch.channels_last)
    return readout


def _position_weights(weights: Tensor | None, vgg: VGGFeatures, n: int) -> list[Tensor]:
    """Weights of the positions of each level's map, [n, h, w]; none without weights."""
    if weights is None:
        return []
    layout = VGGTokens.of(vgg)
    if weights.shape not in ((layout.n_tokens,), (n, layout.n_tokens)):
        expected = f"[{layout.n_tokens}] or [{n}, {layout.n_tokens}]"
        raise ValueError(f"token_weights: expected {expected}, got {list(weights.shape)}")
    if not (weights.isfinite().all() and (weights >= 0).all()):
        raise ValueError("token_weights: expected finite values of zero or more")
    each = weights.float().expand(n, -1)
    maps = [m[:, 0] for m in layout.unpack(each[..., None].expand(-1, -1, layout.token_dim))]
    for level, x in enumerate(maps, start=1):
        if (x.sum((1, 2)) <= 0).any():
            raise ValueError(f"token_weights: all of level {level} are zero; lower its weight")
    return maps


def _resized(start: Tensor | None, side: int, n: int) -> Tensor | None:
    if start is None:
        return None
    if start.ndim != 4 or start.shape[:2] != (n, 3):
        raise ValueError(f"start: expected [{n}, 3, H, W], got {list(start.shape)}")
    if not (start.isfinite().all() and start.min() >= 0 and start.max() <= 1):
        raise ValueError("start: expected values in [0, 1]")
    if start.shape[2:] == (side, side):
        return start
    small = nn.functional.interpolate(start, (side, side), mode="bicubic", antialias=True)
    return small.clamp(0, 1)


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
