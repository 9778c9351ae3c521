"""Sets of pictures keyed by image id: folders of PNG or JPEG, HDF5, NumPy; read batch by batch."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from brainit_eval.labels import check_label, image_id
from brainit_eval.picture_files import LARGEST, SUFFIXES, file_size, read_file

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
        for row, image in zip(rows, images, strict=True):
            _check_values(image, f"{self.name}: image {self.ids[row]}")
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


def open_folder(folder: Path, name: str) -> Pictures:
    """Pictures in a folder, one PNG or JPEG file each, named by its image id.

    Raises:
        ValueError: If there is none, an id occurs twice, or pictures differ in size.
    """
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
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


def open_pictures(
    path: str | os.PathLike[str], subject: str = "subject"
) -> dict[str, tuple[Pictures, ...]]:
    """Open what a path holds: per subject one set of pictures per sample (generator seed).

    * A folder of pictures; or of one folder per subject; or, inside those, of one per sample.
    * An HDF5 file with ``images`` and ``image_id``; or groups per subject, and per sample.
    * A ``.npz`` file with ``images`` and ``image_id``, or a ``.npy`` file with the ids in a text
      file beside it (``X.npy`` and ``X.ids.txt``, one a line): one subject.

    Args:
        path: Folder or file.
        subject: Name of the subject where the path names none.

    Raises:
        FileNotFoundError: If there is nothing.
        ImportError: If an HDF5 file is given and h5py is not installed.
        ValueError: If it is none of the above.
    """
    place = Path(path)
    found = _open(place)
    if isinstance(found, Pictures):
        return {check_label(subject, "subject"): (found,)}
    sets = {
        check_label(name, f"{place}: subject"): (inner,)
        if isinstance(inner, Pictures)
        else tuple(_samples(inner, f"{place}: {name}"))
        for name, inner in found.items()
    }
    if len({len(samples) for samples in sets.values()}) != 1:
        raise ValueError(f"{place}: expected as many samples of every subject")
    return sets


def open_truth(path: str | os.PathLike[str]) -> Pictures | dict[str, Pictures]:
    """Open the true images: one set for all subjects, or one per subject.

    Args:
        path: As for `open_pictures`, without samples.

    Raises:
        FileNotFoundError: If there is nothing.
        ImportError: If an HDF5 file is given and h5py is not installed.
        ValueError: If it is something else.
    """
    if isinstance(found := _open(Path(path)), Pictures):
        return found
    sets = open_pictures(path)
    if any(len(samples) != 1 for samples in sets.values()):
        raise ValueError(f"{path}: expected one true picture for each id, got samples")
    return {subject: samples[0] for subject, samples in sets.items()}


def match_ids(images: Pictures, truth: Pictures) -> None:
    """Check that two sets hold the same ids; both are in one order then.

    Raises:
        ValueError: Naming the first ids that are missing or too many.
    """
    missing = [value for value in truth.ids if value not in set(images.ids)]
    surplus = [value for value in images.ids if value not in set(truth.ids)]
    if missing or surplus:
        parts = [
            f"{len(values)} {what}: {', '.join(values[:5])}{', ...' if len(values) > 5 else ''}"
            for values, what in ((missing, "missing"), (surplus, "never seen"))
            if values
        ]
        raise ValueError(
            f"{images.name}: expected the {len(truth)} true images; {'; '.join(parts)}"
        )


Tree = Mapping[str, Any]


def _open(path: Path) -> Pictures | Tree:
    if path.is_dir():
        return _folders(path)
    if not path.is_file():
        raise FileNotFoundError(f"{str(path)!a}: no such file or folder")
    if path.suffix in (".h5", ".hdf5"):
        return _hdf5(path)
    if path.suffix in (".npy", ".npz"):
        return _numpy(path)
    raise ValueError(f"{str(path)!a}: expected a folder, or a .h5, .npy or .npz file")


def _samples(tree: Tree, name: str) -> list[Pictures]:
    samples = [tree[key] for key in sorted(tree, key=_natural)]
    if not all(isinstance(sample, Pictures) for sample in samples):
        raise ValueError(f"{name}: expected pictures or one level of samples, got deeper ones")
    if len({sample.size for sample in samples}) != 1:
        raise ValueError(f"{name}: expected samples of one size in pixels")
    return samples


def _folders(folder: Path, depth: int = 0) -> Pictures | Tree:
    inner = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    pictures = any(p.suffix.lower() in SUFFIXES for p in folder.iterdir())
    if pictures == bool(inner) or depth > 2:
        raise ValueError(f"{folder}: expected either pictures (PNG, JPEG) or folders of them")
    if pictures:
        return open_folder(folder, str(folder))
    return {path.name: _folders(path, depth + 1) for path in inner}


def _hdf5(path: Path) -> Pictures | Tree:
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"{path}: needs h5py: pip install 'brainit-eval[hdf5]'") from error

    def walk(group: Any, name: str, depth: int) -> Pictures | Tree:
        for key in group:
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise ValueError(f"{name}: expected no links, got {key!a}")
        if "images" in group:
            return _keyed(group, name)
        if (
            depth > 2
            or not len(group)
            or not all(isinstance(v, h5py.Group) for v in group.values())
        ):
            raise ValueError(f"{name}: expected images and image_id, or groups of them")
        return {key: walk(inner, f"{name}/{key}", depth + 1) for key, inner in group.items()}

    try:
        file = h5py.File(path, "r")  # stays open: pictures are read from it batch by batch
    except OSError as error:
        raise ValueError(f"{path}: expected an HDF5 file: {str(error).splitlines()[0]}") from None
    return walk(file, str(path), 0)


def _numpy(path: Path) -> Pictures:
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return _keyed({key: file[key] for key in file.files}, str(path))
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        if str(error).startswith(str(path)):
            raise
        line = str(error).splitlines()[0] if str(error) else "empty"
        raise ValueError(f"{path}: expected arrays: {line}") from None
    listed = path.with_suffix(".ids.txt")
    if not listed.is_file():
        raise FileNotFoundError(f"{listed}: expected the image ids, one a line, for {path.name}")
    return from_arrays(array, listed.read_text(encoding="utf-8").split(), str(path))


def _keyed(group: Mapping[str, Any], name: str) -> Pictures:
    if "image_id" not in group or not hasattr(group.get("images"), "dtype"):
        raise ValueError(f"{name}: expected the arrays images and image_id")
    ids = np.asarray(group["image_id"])
    if ids.ndim != 1 or ids.dtype.kind not in "iuOSU":
        raise ValueError(f"{name}: image_id: expected a list of numbers or texts, got {ids.dtype}")
    texts = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in ids.tolist()]
    return from_arrays(group["images"], texts, name)


def _order(ids: list[str], name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    if len(ids) < 2:
        raise ValueError(f"{name}: expected 2 images or more, got {len(ids)}")
    order = sorted(range(len(ids)), key=lambda place: _natural(ids[place]))
    texts = tuple(ids[place] for place in order)
    for one, other in itertools.pairwise(texts):
        if one == other:
            raise ValueError(f"{name}: image {one} occurs twice")
    return np.array(order), texts


def _natural(text: str) -> tuple[bool, int, str]:
    return (False, int(text), "") if text.isdecimal() else (True, 0, text)


def _check_size(height: int, width: int, name: str) -> None:
    if height != width or not 11 <= height <= LARGEST:
        raise ValueError(
            f"{name}: expected square pictures of 11 to {LARGEST} px, got {width} x {height}"
        )


def _check_values(image: Tensor, name: str) -> None:
    if not bool(torch.isfinite(image).all()):
        raise ValueError(f"{name}: holds NaN or infinite pixels")
    low, high = float(image.min()), float(image.max())
    if low < 0 or high > 1:
        raise ValueError(f"{name}: expected values in [0, 1], got {low:.4g} to {high:.4g}")
