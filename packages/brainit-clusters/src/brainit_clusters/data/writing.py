"""Writing a dataset: images and every subject's responses into one HDF5 file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainit_clusters._files import replacing
from brainit_clusters.data.record import SPLITS, SubjectData
from brainit_clusters.data.rows import row_blocks

SCHEMA_VERSION = 1
IMAGES_AT_A_TIME = 256


class ImageArray(Protocol):
    """What `write_dataset` needs of images: an array, or anything that is sliced like one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[n, H, W, 3]."""

    def __getitem__(self, rows: slice, /) -> NDArray[np.uint8]: ...


def write_dataset(
    path: str | Path,
    images: ImageArray,
    image_id: ArrayLike,
    subjects: Iterable[SubjectData],
    attributes: Mapping[str, Any],
    coco_id: ArrayLike | None = None,
) -> Path:
    """Write a dataset; the file appears under its name only when it is whole.

    Args:
        path: The HDF5 file to write.
        images: uint8 [n, H, W, 3], read in slices.
        image_id: [n] 0-based ids, ascending.
        subjects: May be a generator: each subject is written before the next one is asked for.
        attributes: JSON values kept with the file (source, betas, space, mask, ...).
        coco_id: [n] ids of the images in COCO, where captions and categories are.

    Raises:
        ValueError: if shapes or ids do not fit together.
    """
    ids = np.asarray(image_id, dtype=np.int64)
    if len(images.shape) != 4 or images.shape[0] != len(ids) or images.shape[3] != 3:
        raise ValueError(f"images have shape {images.shape}, expected ({len(ids)}, H, W, 3)")
    if np.any(np.diff(ids) <= 0):
        raise ValueError("image_id must ascend without doubles")
    if coco_id is not None and np.shape(coco_id) != ids.shape:
        raise ValueError(f"coco_id has shape {np.shape(coco_id)}, expected {ids.shape}")
    path = Path(path)
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        _write_attributes(file, {"schema_version": SCHEMA_VERSION, **attributes})
        file["image_id"] = ids
        if coco_id is not None:
            file["coco_id"] = np.asarray(coco_id, np.int64)
        _write_images(file, images)
        group = file.create_group("subjects")
        for subject in subjects:
            if len(missing := np.setdiff1d(subject.image_id, ids)):
                raise ValueError(f"{subject.name}: no image with id {missing[0]}")
            write_subject(group.create_group(subject.name), subject)
    return path


def _write_attributes(node: h5py.Group, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        node.attrs[name] = json.dumps(value)


def _write_images(file: h5py.File, images: ImageArray) -> None:
    shape = tuple(images.shape)
    store = file.create_dataset("images", shape, np.uint8)
    for start in range(0, shape[0], IMAGES_AT_A_TIME):
        store[start : start + IMAGES_AT_A_TIME] = images[slice(start, start + IMAGES_AT_A_TIME)]


def write_subject(group: h5py.Group, subject: SubjectData) -> None:
    """Write a subject into an empty group, betas in blocks of rows.

    Raises:
        ValueError: if betas are not finite in float16.
    """
    store = group.create_dataset("betas", subject.betas.shape, np.float16)
    for rows in row_blocks(*subject.betas.shape):
        block = subject.betas[rows]
        with np.errstate(over="ignore"):
            half = block.astype(np.float16, copy=False)
        if not np.isfinite(half).all():
            largest = np.abs(block).max()
            raise ValueError(f"{subject.name}: betas are not finite in float16 (largest {largest})")
        store[rows] = half
    group["image_id"] = subject.image_id.astype(np.int64)
    group["repeats"] = subject.repeats.astype(np.int16)
    codes = [SPLITS.index(name) for name in subject.split]
    group["split"] = np.asarray(codes, dtype=np.uint8)
    group["split"].attrs["names"] = json.dumps(SPLITS)
    group["vertex"] = subject.vertex.astype(np.int32)
    group["hemisphere"] = subject.hemisphere.astype(np.uint8)
    group["noise_ceiling"] = subject.noise_ceiling.astype(np.float32)
    if subject.ijk is not None and subject.affine is not None:
        group["ijk"] = subject.ijk.astype(np.int32)
        group["affine"] = subject.affine.astype(np.float64)
    if subject.trial is not None:
        group["trial"] = subject.trial.astype(np.int32)
    rois = group.create_group("roi")
    for name, labels in subject.roi.items():
        rois[name] = labels.astype(np.int32)
        rois[name].attrs["labels"] = json.dumps(dict(subject.roi_labels.get(name, {})))
    _write_attributes(group, subject.attributes)
