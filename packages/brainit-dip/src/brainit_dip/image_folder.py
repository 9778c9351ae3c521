"""The pictures of a folder, and random crops of them that depend on their number alone."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
SMALLEST_CROP = 0.4
"""Of the shorter side."""


def list_images(folder: Path) -> list[Path]:
    """Image files below a folder, sorted.

    Raises:
        FileNotFoundError: If there is no such folder or it holds no image.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of images")
    files = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
    )
    if not files:
        raise FileNotFoundError(f"{folder}: holds no image; expected {', '.join(sorted(SUFFIXES))}")
    return files


def read_image(path: Path, size: int) -> Tensor:
    """The central square of a picture, [3, size, size] in [0, 1].

    Raises:
        OSError: If the file is no picture or a broken one.
    """
    picture = _open(path)
    side = min(picture.size)
    left, top = ((length - side) / 2 for length in picture.size)
    return _cut(picture, left, top, side, size)


class RandomCrops(Dataset[Tensor]):
    """Random squares of random pictures; crop i is the same in every process and run."""

    def __init__(self, files: list[Path], size: int, seed: int) -> None:
        """Crops of `size` x `size` pixels; a crop is drawn from `seed` and its number."""
        self.files, self.size, self.seed = files, size, seed

    def __getitem__(self, number: int) -> Tensor:
        """Crop [3, size, size] in [0, 1]: 40 to 100 % of the shorter side, half of them flipped."""
        generator = torch.Generator().manual_seed((self.seed << 40) + number)
        file, scale, left, top, flip = torch.rand(5, generator=generator).tolist()
        picture = _open(self.files[int(file * len(self.files))])
        width, height = picture.size
        side = min(width, height) * (SMALLEST_CROP + (1 - SMALLEST_CROP) * scale)
        crop = _cut(picture, left * (width - side), top * (height - side), side, self.size)
        return crop.flip(2) if flip < 0.5 else crop


def _open(path: Path) -> Image.Image:
    """Decoded RGB pixels; Pillow's own errors do not always name the file."""
    try:
        with Image.open(path) as opened:
            return opened.convert("RGB")
    except (OSError, SyntaxError) as error:
        raise OSError(f"{path}: cannot be read as a picture: {error}") from error


def _cut(image: Image.Image, left: float, top: float, side: float, size: int) -> Tensor:
    box = (left, top, left + side, top + side)
    cut = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    pixels: Tensor = pil_to_tensor(cut)
    return pixels.float() / 255
