"""Checks of images before anything is scored: one clear line, never a silent repair."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def check_images(images: Tensor, name: str, fewest: int = 2) -> Tensor:
    """Check a set of pictures and return it in at least single precision.

    Args:
        images: ``[n, 3, H, W]`` RGB, floating point, values in [0, 1].
        name: What the caller calls them; errors start with it.
        fewest: Least number of pictures.

    Returns:
        The same images; half precision is widened to float32, other values are untouched.

    Raises:
        TypeError: If it is no floating-point tensor.
        ValueError: If shape, number, or a value is not as stated.
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"{name}: expected a floating-point tensor in [0, 1], got {kind}")
    shape = tuple(images.shape)
    if images.ndim != 4 or shape[1] != 3:
        raise ValueError(f"{name}: expected shape [n, 3, H, W], got {list(shape)}")
    if shape[0] < fewest:
        raise ValueError(f"{name}: expected {fewest} images or more, got {shape[0]}")
    check_values(images, name, range(len(images)))
    return images.float() if images.dtype in (torch.float16, torch.bfloat16) else images


def check_pairs(
    images: Tensor, truth: Tensor, name: str = "images", fewest: int = 2
) -> tuple[Tensor, Tensor]:
    """Check reconstructions and the images seen, paired by position.

    Args:
        images: Reconstructions, ``[n, 3, H, W]`` in [0, 1].
        truth: What was seen, same shape.
        name: What the caller calls the reconstructions.
        fewest: Least number of pictures.

    Returns:
        Both, in at least single precision and in one floating-point type.

    Raises:
        TypeError: If one is no floating-point tensor.
        ValueError: If shapes differ or one set is not as `check_images` wants it.
    """
    images = check_images(images, name, fewest)
    truth = check_images(truth, f"truth of {name}", fewest)
    if images.shape != truth.shape:
        raise ValueError(
            f"{name}: expected the truth's shape {list(truth.shape)}, got {list(images.shape)}"
        )
    dtype = torch.promote_types(images.dtype, truth.dtype)
    return images.to(dtype), truth.to(dtype)


def check_values(images: Tensor, name: str, ids: Sequence[object]) -> None:
    """Check that all pixels are numbers in [0, 1].

    Args:
        images: ``[n, 3, H, W]``.
        name: What the caller calls them.
        ids: ``[n]`` what the caller calls each of them.

    Raises:
        ValueError: Naming the first image that is not.
    """
    bad = ~((images >= 0) & (images <= 1)).flatten(1).all(1)  # NaN fails both
    if not bad.any():
        return
    index = int(bad.nonzero()[0])
    where, image = f"{name}: image {ids[index]}", images[index]
    if not bool(torch.isfinite(image).all()):
        raise ValueError(f"{where}: holds NaN or infinite pixels")
    low, high = float(image.min()), float(image.max())
    raise ValueError(f"{where}: expected values in [0, 1], got {low:.4g} to {high:.4g}")
