"""Power spectra of pictures, and what they show: too little detail, or a grid that inversion left.

Both detectors hold the reconstruction against the image seen *at one resolution*. Give them the
pictures at the size at which they were made: enlarging smooths, and moves a checkerboard away
from where it is looked for.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from brainit_eval.pictures.stream import PictureArray, paired_batches
from brainit_eval.statistics.readings import Reading, read_mean

SMOOTHER_THAN = -0.25
"""Slope difference below which pictures read as over-smooth: a Gaussian blur of about 0.55 px."""
GRID_ABOVE = 0.5
"""log10 of the relative grid energy above which a checkerboard is read: a factor of three."""

_ROUNDING = (1 / 255) ** 2 / 12  # power of rounding to 8 bits: no content can be told below it
_BAND = (1 / 32, 1 / 4)  # cycles per pixel: three octaves, up to half the Nyquist frequency
_BINS = 8
_PART = 4  # pictures: keeps spectra in float64 below 100 MB at 425 px
_EMPTY = 16 * _ROUNDING  # contours of smooth 8-bit ramps lie above rounding, below this
_STEEPEST = -4.0
_SMALLEST = 32  # pixels; the band then holds eight whole frequencies
_DISC, _RING = 1 / 32, (1 / 16, 1 / 8)  # cycles per pixel around a grid frequency


def power_spectrum(images: Tensor) -> Tensor:
    """Power per frequency, mean of the colours; white noise of variance v has power v everywhere.

    The mean is taken off and a Hann window applied, so that the borders do not add lines.

    Args:
        images: ``[n, 3, H, W]``.

    Returns:
        ``[n, H, W // 2 + 1]`` float64, frequencies as `torch.fft.rfft2` orders them.
    """
    height, width = images.shape[-2:]
    window = torch.outer(*(torch.hann_window(n, dtype=torch.float64) for n in (height, width)))
    window = window.to(images.device)
    parts = []
    for part in images.split(_PART):
        centred = part.double() - part.double().mean((-2, -1), keepdim=True)
        parts.append(torch.fft.rfft2(centred * window).abs().square().mean(1))
    return torch.cat(parts) / window.square().sum()


def spectral_slope(power: Tensor, height: int, width: int) -> Tensor:
    """Slope of log10 power over log10 frequency between 1/32 and 1/4 cycles per pixel.

    Args:
        power: ``[n, H, W // 2 + 1]`` from `power_spectrum`.
        height: H.
        width: W.

    Returns:
        ``[n]``, about -2 for photographs. NaN where the upper octave (1/8 to 1/4) holds no more
        than rounding to 8 bits may leave: there is no slope to measure.
    """
    y, x = _frequencies(height, width, power)
    radius = (y.square() + x.square()).sqrt()
    edges = torch.logspace(np.log10(_BAND[0]), np.log10(_BAND[1]), _BINS + 1, dtype=torch.float64)
    bins = torch.bucketize(radius, edges.to(power.device), right=True) - 1
    rings = [bins == index for index in range(_BINS) if (bins == index).any()]
    ring_power = _means(power, rings)
    place = _means(radius.clamp(min=_BAND[0]).log10()[None], rings)[0]
    place -= place.mean()
    slope = ring_power.clamp(min=1e-30).log10() @ place / place.square().sum()
    octave = place > place[-1] - np.log10(2)
    empty = ring_power[:, octave].mean(1) < _EMPTY
    return torch.where(empty, torch.nan, slope)


def over_smoothness(
    images: PictureArray,
    truth: PictureArray,
    *,
    limit: float = SMOOTHER_THAN,
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> Reading:
    """Whether reconstructions hold less detail than the images seen, by their spectral slopes.

    The value of an image is the slope of its reconstruction less its own, about 0 for pictures of
    equal sharpness and negative for smoother ones. A reconstruction without any detail counts as
    -4, as does any steeper one; an image seen without detail cannot be judged.

    Args:
        images: Reconstructions, sides of 32 pixels or more.
        truth: The images seen, same shape.
        limit: Green while the interval of the mean lies above this.
        n_bootstrap: Resamples behind the interval.
        seed: Their seed.

    Raises:
        ValueError: If shapes or values are not as stated, or no image can be judged.
    """
    values = []
    for pair in paired_batches(images, truth, _SMALLEST):
        own, seen = (spectral_slope(power_spectrum(x), *x.shape[-2:]) for x in pair)
        difference = torch.where(own.isnan(), _STEEPEST, own - seen).clamp(min=_STEEPEST)
        values.append(torch.where(seen.isnan(), torch.nan, difference))
    per_image = torch.cat(values).cpu().numpy()
    return read_mean(
        "over_smoothness",
        "spectral slope less that of the image seen",
        per_image,
        limit,
        "above",
        n_bootstrap=n_bootstrap,
        seed=seed,
    )


def grid_energy(power: Tensor, height: int, width: int) -> Tensor:
    """How far the frequencies of a regular grid stand out of their surroundings, as log10.

    Transposed convolutions, pixel shuffles and inversions of strided networks leave patterns of
    period 2 or 4 pixels. For each such frequency (the multiples of 1/4 cycle per pixel on both
    axes but 0, 0) the mean power within 1/32 cycle is divided by that in the ring from 1/16 to
    1/8 around it, both raised by the power of rounding; the ratios are averaged.

    Args:
        power: ``[n, H, W // 2 + 1]`` from `power_spectrum`.
        height: H.
        width: W.

    Returns:
        ``[n]``, 0 for noise and for flat pictures.
    """
    y, x = _frequencies(height, width, power)
    discs, rings = [], []
    for across in (0.0, 0.25, 0.5):
        for down in (-0.25, 0.0, 0.25, 0.5):
            if (across, down) != (0.0, 0.0):
                gap = (y - down + 0.5) % 1 - 0.5  # frequencies repeat: -1/2 is 1/2
                distance = (gap.square() + (x - across).square()).sqrt()
                discs.append(distance <= _DISC)
                rings.append((distance >= _RING[0]) & (distance <= _RING[1]))
    near, around = (_means(power, masks) + _ROUNDING for masks in (discs, rings))
    return (near / around).mean(1).log10()


def inversion_artefacts(
    images: PictureArray,
    truth: PictureArray,
    *,
    limit: float = GRID_ABOVE,
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> Reading:
    """Whether reconstructions carry a checkerboard that the images seen do not.

    The value of an image is the `grid_energy` of its reconstruction less its own: 0.3 is twice the
    energy relative to neighbouring frequencies. Noise and blur leave it near 0.

    Args:
        images: Reconstructions at the size at which they were made, 32 pixels or more.
        truth: The images seen, resized to that.
        limit: Green while the interval of the mean lies below this.
        n_bootstrap: Resamples behind the interval.
        seed: Their seed.

    Raises:
        ValueError: If shapes or values are not as stated.
    """
    values = []
    for pair in paired_batches(images, truth, _SMALLEST):
        own, seen = (grid_energy(power_spectrum(x), *x.shape[-2:]) for x in pair)
        values.append(own - seen)
    per_image = torch.cat(values).cpu().numpy()
    return read_mean(
        "inversion_artefacts",
        "log10 of checkerboard energy less that of the image seen",
        per_image,
        limit,
        "below",
        n_bootstrap=n_bootstrap,
        seed=seed,
    )


def _means(power: Tensor, masks: list[Tensor]) -> Tensor:
    """Mean power within each mask, ``[n, masks]``."""
    weights = torch.stack(masks).flatten(1).to(power.dtype)
    return power.flatten(1) @ (weights / weights.sum(1, keepdim=True)).T


def _frequencies(height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cycles per pixel down ``[H, 1]`` and across ``[1, W // 2 + 1]``."""
    down = torch.fft.fftfreq(height, dtype=like.dtype, device=like.device)
    across = torch.fft.rfftfreq(width, dtype=like.dtype, device=like.device)
    return down[:, None], across[None]
