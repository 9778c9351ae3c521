"""Pixel scores per image: correlation (PixCorr) and structural similarity (SSIM)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from brainit_eval.pictures.checks import check_pairs

_GREY = (0.2125, 0.7154, 0.0721)  # Rec. 709, as skimage.color.rgb2gray
_SIGMA, _RADIUS = 1.5, 5
_C1, _C2 = 0.01**2, 0.03**2
_BATCH = 8  # keeps the float64 copies below 100 MB at 425 px


def pixcorr(images: Tensor, truth: Tensor) -> Tensor:
    """Pearson correlation of each reconstruction with its image, over pixels and colours jointly.

    Sums are taken in float64: single precision is off by up to 4e-5 per image. An image of one
    value has no correlation; it explains nothing of the other and scores 0.

    Args:
        images: Reconstructions, ``[n, 3, H, W]`` in [0, 1].
        truth: Images seen, same shape.

    Returns:
        ``[n]`` float64 in [-1, 1].

    Raises:
        TypeError: If one is no floating-point tensor.
        ValueError: If shapes differ, or pixels are NaN or outside [0, 1], or ``n`` is below 2.
    """
    return pixel_scores("pixcorr", *check_pairs(images, truth))


def ssim(images: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) of the greyscale images at their own resolution.

    The recipe of the field: Rec. 709 grey, 11 x 11 Gaussian window of sigma 1.5, population
    covariance, data range 1, mean over pixels at least 5 from the border. Equal to scikit-image's
    ``structural_similarity(..., gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    data_range=1)`` on 2-D images (from 0.20 on; older releases took each column for a channel when
    ``multichannel=True`` was given). Computed in float64: in single precision a flat image may be
    off by more than 1e-6. The value depends on the resolution: compare like with like.

    Args:
        images: Reconstructions, ``[n, 3, H, W]`` in [0, 1], sides of 11 pixels or more.
        truth: Images seen, same shape.

    Returns:
        ``[n]`` float64 in [-1, 1].

    Raises:
        TypeError: If one is no floating-point tensor.
        ValueError: As `pixcorr`, or if a side is shorter than the window.
    """
    return pixel_scores("ssim", *check_pairs(images, truth))


def ssim_columns(images: Tensor, truth: Tensor) -> Tensor:
    """SSIM as scikit-image up to 0.19 computed it when ``multichannel=True`` met a grey image.

    Each column of pixels was taken for a channel: the window is a line of 11 pixels down the
    column, and nothing is compared across. Older published values are on this scale; it is about
    .1 higher than `ssim` for reconstructions, and the order of methods may change. Equal to the
    mean of ``structural_similarity`` over the columns, with the settings of `ssim`.

    Args:
        images: As for `ssim`.
        truth: As for `ssim`.

    Returns:
        ``[n]`` float64 in [-1, 1].

    Raises:
        TypeError: As `ssim`.
        ValueError: As `ssim`.
    """
    return pixel_scores("ssim_columns", *check_pairs(images, truth))


def pixel_scores(score: str, images: Tensor, truth: Tensor) -> Tensor:
    """One of the three, for pictures that were checked already, also for a single pair.

    Args:
        score: ``pixcorr``, ``ssim`` or ``ssim_columns``.
        images: ``[n, 3, H, W]`` in [0, 1].
        truth: Same shape.

    Returns:
        ``[n]`` float64.

    Raises:
        ValueError: If a side is shorter than the window of SSIM.
    """
    if score != "pixcorr" and min(images.shape[2:]) < 2 * _RADIUS + 1:
        raise ValueError(f"ssim: expected sides of 11 pixels or more, got {list(images.shape)}")
    pairs = zip(images.split(_BATCH), truth.split(_BATCH), strict=True)
    if score == "pixcorr":
        return torch.cat([correlate_rows(a.flatten(1), b.flatten(1)) for a, b in pairs])
    grey = ((_grey(a.double()), _grey(b.double())) for a, b in pairs)
    return torch.cat([_ssim_grey(x, y, columns=score == "ssim_columns") for x, y in grey])


def correlate_rows(a: Tensor, b: Tensor) -> Tensor:
    """Pearson correlation of each row with its partner, in float64; 0 where one is constant.

    Args:
        a: ``[n, D]``.
        b: Same shape.

    Returns:
        ``[n]`` float64 in [-1, 1].
    """
    constant = (a.amax(1) == a.amin(1)) | (b.amax(1) == b.amin(1))
    a, b = a.double(), b.double()
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    scale = a.norm(dim=1) * b.norm(dim=1)
    r = (a * b).sum(1) / torch.where(constant, 1.0, scale)
    return torch.where(constant, 0.0, r).clamp(-1, 1)


def _grey(images: Tensor) -> Tensor:
    weights = images.new_tensor(_GREY).view(1, 3, 1, 1)
    return (images * weights).sum(1)


def _window_mean(planes: Tensor, columns: bool) -> Tensor:
    """Gaussian means over all windows that fit in ``[..., H, W]``: ``[..., H-10, W-10]``.

    Down the columns only, the width stays.

    A product with a banded matrix per axis: on a processor many times faster than a convolution
    of one channel.
    """
    down = _band(planes, planes.shape[-2]) @ planes
    return down if columns else down @ _band(planes, planes.shape[-1]).T


def _band(like: Tensor, side: int) -> Tensor:
    taps = [math.exp(-0.5 * (k / _SIGMA) ** 2) for k in range(-_RADIUS, _RADIUS + 1)]
    band = like.new_zeros(side - 2 * _RADIUS, side)
    for k, tap in enumerate(taps):
        band.diagonal(k).fill_(tap / sum(taps))
    return band


def _ssim_grey(x: Tensor, y: Tensor, columns: bool) -> Tensor:
    means = _window_mean(torch.cat([x, y, x * x, y * y, x * y]), columns)
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = means.chunk(5)
    covariance = mean_xy - mean_x * mean_y
    variances = mean_xx - mean_x**2 + mean_yy - mean_y**2
    above = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    below = (mean_x**2 + mean_y**2 + _C1) * (variances + _C2)
    return (above / below).flatten(1).mean(1)
