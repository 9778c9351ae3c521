"""Open sets of pictures: folders of PNG or JPEG files, HDF5, NumPy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from brainit_eval.pictures.files import SUFFIXES
from brainit_eval.pictures.sets import Pictures, from_arrays, from_files, natural
from brainit_eval.records.labels import check_label

Tree = Mapping[str, Any]


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
    found = _open(Path(path))
    if isinstance(found, Pictures):
        return {check_label(subject, "subject"): (found,)}
    return _by_subject(found, str(path))


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
    sets = _by_subject(found, str(path))
    if any(len(samples) != 1 for samples in sets.values()):
        raise ValueError(f"{path}: expected one true picture for each id, got samples")
    return {subject: samples[0] for subject, samples in sets.items()}


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


def _by_subject(tree: Tree, name: str) -> dict[str, tuple[Pictures, ...]]:
    sets = {}
    for subject in sorted(tree, key=natural):
        inner = tree[subject]
        samples = {"": inner} if isinstance(inner, Pictures) else inner
        sets[check_label(subject, f"{name}: subject")] = _samples(samples, f"{name}: {subject}")
    if len({len(samples) for samples in sets.values()}) != 1:
        raise ValueError(f"{name}: expected as many samples of every subject")
    return sets


def _samples(tree: Tree, name: str) -> tuple[Pictures, ...]:
    samples = tuple(tree[key] for key in sorted(tree, key=natural))
    if not all(isinstance(sample, Pictures) for sample in samples):
        raise ValueError(f"{name}: expected pictures or one level of samples, got deeper ones")
    if len({sample.size for sample in samples}) != 1:
        raise ValueError(f"{name}: expected samples of one size in pixels")
    return samples


def _folders(folder: Path, depth: int = 0) -> Pictures | Tree:
    inner = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    pictures = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    if bool(pictures) == bool(inner) or depth > 2:
        raise ValueError(f"{folder}: expected either pictures (PNG, JPEG) or folders of them")
    if pictures:
        return from_files(pictures, str(folder))
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
        groups = len(group) and all(isinstance(inner, h5py.Group) for inner in group.values())
        if depth > 2 or not groups:
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
