"""Pictures for pages and files: to 8 bits, to PNG or JPEG, to a data URI."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

_STARTS = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff"}

Picture = Any
"""A tensor or array ``[3, H, W]`` float in [0, 1], or an array ``[H, W, 3]`` uint8."""


def to_image(picture: Picture, name: str, longest: int | None = None) -> Image.Image:
    """Convert one picture, made smaller if it is larger than needed.

    Args:
        picture: ``[3, H, W]`` floating point in [0, 1], or ``[H, W, 3]`` uint8.
        name: What the caller calls it; errors start with it.
        longest: Longest side in pixels allowed.

    Raises:
        ValueError: If shape or values are not as stated.
    """
    array = np.asarray(picture.detach().float().cpu() if hasattr(picture, "detach") else picture)
    if array.dtype != np.uint8:
        array = _to_bytes(array, name)
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ValueError(f"{name}: expected uint8 [H, W, 3], got {list(array.shape)}")
    image = Image.fromarray(np.ascontiguousarray(array))
    if longest is not None:
        image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return image


def png(image: Image.Image) -> bytes:
    """PNG file of a picture."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def jpeg(image: Image.Image, quality: int) -> bytes:
    """JPEG file of a picture, without chroma subsampling; at 95 hard to tell from the original."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def data_uri(content: bytes) -> str:
    """Data URI of a PNG or JPEG file.

    Raises:
        ValueError: If the bytes are neither.
    """
    kinds = [kind for kind, start in _STARTS.items() if content.startswith(start)]
    if not kinds:
        raise ValueError(f"figure: expected a PNG or JPEG file, got bytes {content[:8]!r}")
    return f"data:image/{kinds[0]};base64,{base64.b64encode(content).decode('ascii')}"


def _to_bytes(array: np.ndarray, name: str) -> np.ndarray:
    if array.ndim != 3 or array.shape[0] != 3 or not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"{name}: expected float [3, H, W] in [0, 1] or uint8 [H, W, 3], "
            f"got {array.dtype} {list(array.shape)}"
        )
    if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
        raise ValueError(f"{name}: expected finite values in [0, 1]")
    result: np.ndarray = np.rint(array.transpose(1, 2, 0) * 255).astype(np.uint8)
    return result
