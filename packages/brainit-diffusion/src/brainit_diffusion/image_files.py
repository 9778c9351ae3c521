"""Images of a folder of picture files or of an HDF5 file, and their tokens into a store."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from brainit_diffusion.clip_tokens import ClipTokens
from brainit_diffusion.token_store import SHARD_SIZE, TokenStore, write_tokens

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
NSD_STIMULI = "imgBrick"
"""Dataset of NSD's stimulus file: the 73,000 images [N, H, W, 3], 8 bits."""


class Images(Protocol):
    """Images with names, read a few at a time."""

    @property
    def ids(self) -> list[str]:
        """One name per image."""

    def __getitem__(self, row: int) -> Tensor:
        """An image in [0, 1], float32 [3, H, W]."""


class ImageFolder:
    """Picture files below a folder, by their paths without ending, in sorted order.

    Raises:
        ValueError: If there are none, or two differ in their endings alone.
    """

    def __init__(self, folder: Path) -> None:
        self.files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        self.ids = [str(p.relative_to(folder).with_suffix("").as_posix()) for p in self.files]
        if not self.files:
            raise ValueError(f"{folder}: no images ({', '.join(sorted(SUFFIXES))})")
        if len(set(self.ids)) < len(self.ids):
            twice = next(name for name in self.ids if self.ids.count(name) > 1)
            raise ValueError(f"{folder}: {twice!r} names two images")

    def __getitem__(self, row: int) -> Tensor:
        try:
            with Image.open(self.files[row]) as picture:
                return _as_float(np.asarray(picture.convert("RGB")))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"{self.files[row]}: not an image that can be read") from error


class ImageDataset:
    """A dataset [N, H, W, 3] of 8 bits in an HDF5 file, such as NSD's stimuli, by row number.

    Needs the extra `hdf5`.

    Raises:
        ValueError: If there is no such dataset, or its data lie outside the file.
    """

    def __init__(self, file: Path, name: str = NSD_STIMULI) -> None:
        import h5py

        try:
            opened = h5py.File(file, "r")
        except OSError as error:
            raise ValueError(f"{file}: not a whole HDF5 file") from error
        # The format's links would have us read any file of this machine.
        inside = isinstance(opened.get(name, getlink=True), h5py.HardLink)
        self.data: Any = opened[name] if inside else None
        if not isinstance(self.data, h5py.Dataset) or self.data.external or self.data.is_virtual:
            raise ValueError(f"{file}: expected a dataset {name!r} that lies in the file")
        if self.data.ndim != 4 or self.data.shape[3] != 3 or self.data.dtype != np.uint8:
            raise ValueError(
                f"{file}: {name!r} is {self.data.dtype} {self.data.shape}, "
                "expected uint8 [N, H, W, 3]"
            )
        self.ids = [str(row) for row in range(len(self.data))]

    def __getitem__(self, row: int) -> Tensor:
        return _as_float(self.data[row])


def open_images(path: Path, dataset: str = NSD_STIMULI) -> Images:
    """Images of a folder or of an HDF5 file.

    Raises:
        FileNotFoundError: If there is neither.
        ValueError: If it holds no images.
    """
    if path.is_dir():
        return ImageFolder(path)
    if path.is_file():
        return ImageDataset(path, dataset)
    raise FileNotFoundError(f"{path}: expected a folder of images or an HDF5 file")


def _as_float(pixels: Any) -> Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255


def store_tokens(
    folder: Path | str,
    images: Images,
    clip: ClipTokens,
    source: Mapping[str, object],
    *,
    batch_size: int = 64,
    shard_size: int = SHARD_SIZE,
    progress: bool = False,
) -> TokenStore:
    """Write the tokens of images into a store, or go on where one was left.

    Images are read by threads while the model works. The model's fingerprint and the batch size
    are kept beside `source`: going on with others would not give the same bytes.

    Args:
        folder: Where to write.
        images: What to encode.
        clip: The model.
        source: Names to keep in the manifest.
        batch_size: Images that the model takes at a time.
        shard_size: Images in a shard.
        progress: Show a bar.

    Raises:
        ValueError: If the folder holds another store, or an image cannot be read.
    """

    def read(row: int) -> Tensor:
        return clip.resize(images[row][None])

    def encode(rows: range) -> Tensor:
        pixels = pool.map(read, rows)
        starts = range(0, len(rows), batch_size)
        batches = (torch.cat(list(islice(pixels, batch_size))) for _ in starts)
        return torch.cat([clip.encode(batch, batch_size) for batch in batches])

    origin = {**source, "fingerprint": clip.fingerprint(), "batch_size": batch_size}
    with ThreadPoolExecutor() as pool:
        return write_tokens(
            folder, images.ids, encode, origin, shard_size=shard_size, progress=progress
        )
