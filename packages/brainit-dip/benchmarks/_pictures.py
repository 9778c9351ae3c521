"""Photographs to invert, and pictures to train on that are none of them."""

from __future__ import annotations

from colorsys import hsv_to_rgb
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from skimage import data
from torch import Tensor

TEST = ("astronaut", "chelsea", "coffee", "rocket")
"""Photographs to score."""
TUNING = ("camera", "motorcycle")
"""Photographs to choose settings on."""
TRAINING = ("brick", "coins", "grass", "gravel", "hubble_deep_field", "moon", "retina")
"""Textures and colours of the leaves that an inverter is trained on."""
LEAF_SIDE = 256


def photos(names: tuple[str, ...], side: int) -> Tensor:
    """Central squares of scikit-image's photographs, [n, 3, side, side] in [0, 1]."""
    squares = []
    for name in names:
        pixels = torch.from_numpy(_pixels(name)).permute(2, 0, 1)[None].float() / 255
        short = min(pixels.shape[2:])
        top, left = ((length - short) // 2 for length in pixels.shape[2:])
        square = pixels[..., top : top + short, left : left + short]
        squares.append(F.interpolate(square, (side, side), mode="bicubic", antialias=True))
    return torch.cat(squares).clamp(0, 1)


def write_leaves(folder: Path, count: int, seed: int = 0, workers: int = 1) -> Path:
    """Dead-leaves pictures, with colours and textures of `TRAINING`: a stand-in for photographs.

    Leaves that hide one another, with radii of a power law, share the edges and scales of natural
    images (Lee, Mumford and Huang 2001); networks trained on such pictures carry over to
    photographs (Baradad et al., arXiv 2106.05963).
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [i for i in range(count) if not (folder / f"{i:05}.png").exists()]
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(partial(_write_leaf, folder, seed), missing, chunksize=16))
    return folder


def _pixels(name: str) -> NDArray[np.uint8]:
    """Colour pixels [h, w, 3] of a picture that scikit-image ships."""
    picture = data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(data, name)()
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, 2)


_textures: list[Image.Image] = []


def _write_leaf(folder: Path, seed: int, number: int) -> None:
    if not _textures:
        _textures.extend(Image.fromarray(_pixels(name)).convert("RGB") for name in TRAINING)
    _leaves(np.random.default_rng([seed, number])).save(folder / f"{number:05}.png")


def _leaves(random: np.random.Generator) -> Image.Image:
    """One picture: from the largest leaf to the smallest, lit unevenly."""
    side = LEAF_SIDE
    picture = _fill(random, side, side)
    exponent = random.uniform(1.0, 2.0)
    radii = np.sort(side * 0.04 * random.random(random.integers(8, 60)) ** (-1 / exponent))[::-1]
    for radius in radii.clip(max=0.7 * side).astype(int):
        x, y = (int(v) for v in random.uniform(-radius, side - radius, 2))
        picture.paste(_fill(random, 2 * radius, 2 * radius), (x, y), _outline(random, radius))
    light = Image.fromarray(random.integers(130, 255, (3, 3), dtype=np.uint8))
    shade = np.asarray(light.resize((side, side), Image.Resampling.BICUBIC))[..., None] / 255
    return Image.fromarray((np.asarray(picture) * shade).astype(np.uint8))


def _outline(random: np.random.Generator, radius: int) -> Image.Image:
    """A filled ellipse or polygon in a square of twice the radius."""
    mask = Image.new("L", (2 * radius, 2 * radius))
    draw = ImageDraw.Draw(mask)
    if random.random() < 0.5:
        wide, high = radius * random.uniform(0.5, 1, 2)
        draw.ellipse((radius - wide, radius - high, radius + wide, radius + high), fill=255)
    else:
        angles = np.sort(random.uniform(0, 2 * np.pi, random.integers(3, 7)))
        points = radius * (1 + np.stack([np.cos(angles), np.sin(angles)], 1))
        draw.polygon([tuple(point) for point in points], fill=255)
    return mask


def _fill(random: np.random.Generator, *size: int) -> Image.Image:
    """A plain colour, or half of the time a patch of a photographed texture tinted with it."""
    hue, saturation, value = random.random(), random.beta(1, 1.5), random.beta(1.2, 1)
    shade = tuple(round(255 * part) for part in hsv_to_rgb(hue, saturation, value))
    colour = Image.new("RGB", size, shade)
    if random.random() < 0.5:
        return colour
    texture = _textures[random.integers(len(_textures))]
    side = int(min(texture.size) * random.uniform(0.2, 0.9))
    left, top = (int(random.integers(0, length - side + 1)) for length in texture.size)
    patch = texture.resize(size, Image.Resampling.BOX, (left, top, left + side, top + side))
    return Image.blend(patch, colour, random.uniform(0, 0.8))
