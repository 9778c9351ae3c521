"""One set of pictures keyed by image id, read batch by batch."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from brainit_eval.pictures.checks import check_values
from brainit_eval.pictures.files import LARGEST, file_size, read_file
from brainit_eval.records.labels import image_id

_HASHED_ROWS = 32


@dataclass(frozen=True)
class Pictures:
    """One set of square pictures of one size, in the order of their ids.

    Attributes:
        name: What errors call it.
        ids: Image ids as text: numbers first, by value, then the others.
        size: Side in pixels.
        read: Positions to pictures ``[k, H, W, 3]`` or ``[k, 3, H, W]`` as stored.
        file_digest: Position to the digest of its stored content, or None to hash the pixels.
    """

    name: str
    ids: tuple[str, ...]
    size: int
    read: Callable[[range], np.ndarray]
    file_digest: Callable[[int], bytes] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, rows: range) -> Tensor:
        """Pictures ``[k, 3, size, size]`` float32 in [0, 1].

        Raises:
            ValueError: If one cannot be read, holds NaN or values outside [0, 1]; it is named.
        """
        array = self.read(rows)
        if array.shape[1] != 3:
            array = array.transpose(0, 3, 1, 2)
        images = torch.from_numpy(np.ascontiguousarray(array))
        if array.dtype == np.uint8:
            return images.float() / 255
        images = images.float()
        check_values(images, self.name, self.ids[rows.start : rows.stop])
        return images

    def sha256(self) -> str:
        """Hash of ids and stored content; equal sets give the same features."""
        digest = hashlib.sha256(f"{self.size} {' '.join(self.ids)}".encode())
        if self.file_digest is not None:
            for row in range(len(self)):
                digest.update(self.file_digest(row))
            return digest.hexdigest()
        for start in range(0, len(self), _HASHED_ROWS):
            array = self.read(range(start, min(start + _HASHED_ROWS, len(self))))
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def from_arrays(images: Any, ids: Sequence[object], name: str = "images") -> Pictures:
    """Pictures in an array, a tensor or an HDF5 data set; nothing is copied.

    Args:
        images: ``[n, H, W, 3]`` or ``[n, 3, H, W]``, uint8 or floating point in [0, 1], H = W.
        ids: ``[n]`` whole numbers or texts, each once.
        name: What errors call the set.

    Raises:
        ValueError: If shape, kind or ids are not as stated.
    """
    if isinstance(images, Tensor):
        images = images.detach().cpu().numpy()
    shape, kind = tuple(images.shape), np.dtype(images.dtype)
    if kind != np.uint8 and not np.issubdtype(kind, np.floating):
        raise ValueError(f"{name}: expected uint8 or floating-point pictures, got {kind}")
    if len(shape) != 4 or (shape[1] == 3) == (shape[3] == 3):
        raise ValueError(f"{name}: expected shape [n, H, W, 3] or [n, 3, H, W], got {list(shape)}")
    height, width = shape[2:] if shape[1] == 3 else shape[1:3]
    _check_size(height, width, name)
    if len(ids) != shape[0]:
        raise ValueError(f"{name}: expected one id for each of {shape[0]} images, got {len(ids)}")
    order, texts = _order([image_id(value, f"{name}: image id") for value in ids], name)

    def read(rows: range) -> np.ndarray:
        wanted = order[rows.start : rows.stop]
        places = np.argsort(wanted)  # HDF5 wants increasing positions
        array = np.asarray(images[wanted[places]])
        result: np.ndarray = array[np.argsort(places)]
        return result

    return Pictures(name, texts, height, read)


def from_files(files: Sequence[Path], name: str) -> Pictures:
    """Pictures in PNG or JPEG files, each named by its image id.

    Raises:
        ValueError: If there is none, an id occurs twice, or pictures differ in size.
    """
    ids = [image_id(path.stem, f"{name}: file name") for path in files]
    order, texts = _order(ids, name)
    paths = [files[place] for place in order]
    sizes = [file_size(path) for path in paths]
    _check_size(*sizes[0][::-1], f"{name}: {paths[0].name}")
    for path, size in zip(paths, sizes, strict=True):
        if size != sizes[0]:
            got, want = f"{size[0]} x {size[1]}", f"{sizes[0][0]} x {sizes[0][1]}"
            raise ValueError(f"{name}: {path.name}: expected {want} px as the others, got {got}")
    return Pictures(
        name,
        texts,
        sizes[0][0],
        lambda rows: np.stack([read_file(paths[row]) for row in rows]),
        lambda row: hashlib.sha256(paths[row].read_bytes()).digest(),
    )


def match_ids(images: Pictures, truth: Pictures) -> None:
    """Check that two sets hold the same ids; both are in one order then.

    Raises:
        ValueError: Naming the first ids that are missing or too many.
    """
    have, want = set(images.ids), set(truth.ids)
    missing = [value for value in truth.ids if value not in have]
    surplus = [value for value in images.ids if value not in want]
    if missing or surplus:
        parts = [
            f"{len(values)} {what}: {', '.join(values[:5])}{', ...' if len(values) > 5 else ''}"
            for values, what in ((missing, "missing"), (surplus, "never seen"))
            if values
        ]
        raise ValueError(
            f"{images.name}: expected the {len(truth)} true images; {'; '.join(parts)}"
        )


def of_subject(
    found: Pictures | Mapping[str, Pictures], subject: str, name: str = "truth"
) -> Pictures:
    """The pictures of one subject, where all may share one set.

    Raises:
        ValueError: If there are sets, but none of this subject.
    """
    if isinstance(found, Pictures):
        return found
    if subject not in found:
        raise ValueError(f"{name}: has no subject {subject}; got {', '.join(found)}")
    return found[subject]


def _order(ids: list[str], name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    if len(ids) < 2:
        raise ValueError(f"{name}: expected 2 images or more, got {len(ids)}")
    order = sorted(range(len(ids)), key=lambda place: natural(ids[place]))
    texts = tuple(ids[place] for place in order)
    for one, other in itertools.pairwise(texts):
        if one == other:
            raise ValueError(f"{name}: image {one} occurs twice")
    return np.array(order), texts


def natural(text: str) -> list[tuple[bool, int, str]]:
    """Sorts numbers by value, also inside words: 7 before 12, seed2 before seed10."""
    parts = re.split(r"([0-9]+)", text)
    return [(False, int(p), "") if p.isdecimal() else (True, 0, p) for p in parts if p]


def _check_size(height: int, width: int, name: str) -> None:
    if height != width or not 11 <= height <= LARGEST:
        raise ValueError(
            f"{name}: expected square pictures of 11 to {LARGEST} px, got {width} x {height}"
        )
