"""One picture file, from anywhere: decoded to 8-bit RGB or refused in one line."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg")
LARGEST = 4096  # pixels a side: far above any reconstruction, far below what exhausts memory
_RGB = ("RGB", "L", "P", "1")  # what becomes 8-bit RGB without a choice to make
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def file_size(path: Path) -> tuple[int, int]:
    """Width and height from the header; nothing is decoded.

    Raises:
        ValueError: If it is no PNG or JPEG file, or larger than 4,096 px a side.
    """
    with _open(path) as image:
        return image.size


def read_file(path: Path) -> np.ndarray:
    """Decode a picture to ``[H, W, 3]`` uint8, whatever its EXIF orientation says.

    Raises:
        ValueError: If it is damaged, animated, see-through, 16-bit or CMYK.
    """
    with _open(path) as image:
        try:
            image.load()
            if image.mode in ("RGBA", "LA") or "transparency" in image.info:
                image = _opaque(image.convert("RGBA"), path)
            elif image.mode not in _RGB:
                raise ValueError(f"{path}: expected 8-bit RGB or grey, got mode {image.mode}")
            return np.asarray(image.convert("RGB"))
        except _BROKEN as error:
            raise _unreadable(path, error) from None


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path, formats=("PNG", "JPEG"))
    except _BROKEN as error:
        raise _unreadable(path, error) from None
    if max(image.size) > LARGEST:
        size = f"{image.size[0]} x {image.size[1]}"
        image.close()
        raise ValueError(f"{path}: expected up to {LARGEST} px a side, got {size}")
    if getattr(image, "n_frames", 1) != 1:
        image.close()
        raise ValueError(f"{path}: expected one picture, got an animation")
    return image


def _opaque(image: Image.Image, path: Path) -> Image.Image:
    if np.asarray(image)[..., 3].min() < 255:
        raise ValueError(f"{path}: expected an opaque picture, got transparent pixels")
    return image


def _unreadable(path: Path, error: BaseException) -> ValueError:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ValueError(text if text.startswith(str(path)) else f"{path}: not readable: {text[:120]}")
