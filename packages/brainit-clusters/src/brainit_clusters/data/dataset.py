"""`BrainDataset`: images and every subject's responses to them, in one HDF5 file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainit_clusters.data.h5file import H5File, StoredRows, open_h5
from brainit_clusters.data.record import SPLITS, SubjectData
from brainit_clusters.data.writing import (
    SCHEMA_VERSION,
    ImageArray,
    write_dataset,
    write_subject,
)

__all__ = [
    "SCHEMA_VERSION",
    "SPLITS",
    "BrainDataset",
    "ImageArray",
    "SubjectData",
    "read_subject",
    "write_dataset",
    "write_subject",
]


class BrainDataset(H5File):
    """A dataset file, open for reading; also a context manager.

    Attributes:
        path: The file.
        attributes: Source, betas, space, mask, normalisation, test set, input hashes, ...
        subjects: Names of the subjects, sorted.
        image_ids: int64 [n], ids of all images, ascending.
        coco_ids: int64 [n], their ids in COCO; None where they are not known.
        stored_images: uint8 [n, H, W, 3] in the order of `image_ids`, read by rows.
    """

    def __init__(self, file: h5py.File, path: Path) -> None:
        super().__init__(file, path)
        self.attributes: dict[str, Any] = _read_attributes(file)
        self.subjects: list[str] = sorted(file["subjects"])
        self.image_ids: NDArray[np.int64] = file["image_id"][:]
        self.coco_ids: NDArray[np.int64] | None = file["coco_id"][:] if "coco_id" in file else None
        self.stored_images = StoredRows(file["images"])

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a file that `write_dataset` wrote.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is not such a file, or of another schema version.
        """
        path = Path(path)
        file = open_h5(path, "a dataset (dataset.h5)")
        version = file.attrs.get("schema_version")
        if version is None or json.loads(version) != SCHEMA_VERSION:
            file.close()
            raise ValueError(f"{path}: schema_version is {version}, expected {SCHEMA_VERSION}")
        return cls(file, path)

    @property
    def image_size(self) -> int:
        """Height (and width) of the images in pixels."""
        return self.stored_images.shape[1]

    def images(self, ids: ArrayLike | Sequence[int]) -> NDArray[np.uint8]:
        """Images by their ids, in the given order; an id may come more than once.

        Args:
            ids: [n] 0-based image ids.

        Returns:
            uint8 [n, H, W, 3].

        Raises:
            ValueError: if an id is not in the file.
        """
        return self.stored_images[self.image_rows(ids)]

    def image_rows(self, ids: ArrayLike | Sequence[int]) -> NDArray[np.intp]:
        """Where images lie in `stored_images`, by their ids.

        Raises:
            ValueError: if an id is not in the file.
        """
        wanted = np.asarray(ids, dtype=np.int64)
        rows = np.searchsorted(self.image_ids, wanted)
        known = rows < len(self.image_ids)
        known[known] = self.image_ids[rows[known]] == wanted[known]
        if not known.all():
            raise ValueError(f"{self.path}: no image with id {wanted[~known][0]}")
        return rows

    def subject(self, name: str, in_memory: bool = True) -> SubjectData:
        """Read a subject, betas as float32.

        Args:
            name: The subject's name.
            in_memory: False leaves its betas in the file, `StoredRows` in float16.

        Raises:
            ValueError: if there is no such subject.
        """
        group = self._group(name)
        betas = StoredRows(group["betas"])
        return read_subject(group, name, betas[:].astype(np.float32) if in_memory else betas)

    def describe(self, name: str) -> dict[str, Any]:
        """A subject without its betas: n_voxels, rows of each split, attributes (JSON values).

        Raises:
            ValueError: if there is no such subject.
        """
        data = self.subject(name, in_memory=False)
        rows = {split: len(data.rows(split)) for split in SPLITS}
        return {"n_voxels": data.n_voxels, "rows": rows, "attributes": dict(data.attributes)}

    def _group(self, name: str) -> h5py.Group:
        if name not in self.subjects:
            raise ValueError(f"{self.path}: no subject {name!r}, expected one of {self.subjects}")
        return self._file["subjects"][name]


def read_subject(group: h5py.Group, name: str, betas: Any) -> SubjectData:
    """A subject that `write_subject` wrote.

    Args:
        group: Where it was written.
        name: The subject's name.
        betas: Its betas, in memory or `group["betas"]` itself.
    """
    names = np.array(json.loads(group["split"].attrs["names"]))
    rois = group["roi"]
    labels = {roi: json.loads(rois[roi].attrs["labels"]) for roi in rois}

    def values(field: str) -> Any:
        # Absent where it does not apply, and from files written before it could be stored.
        return group[field][:] if field in group else None

    return SubjectData(
        name=name,
        betas=betas,
        image_id=group["image_id"][:],
        repeats=group["repeats"][:],
        split=names[group["split"][:]],
        vertex=group["vertex"][:],
        hemisphere=group["hemisphere"][:],
        noise_ceiling=group["noise_ceiling"][:],
        roi={roi: rois[roi][:] for roi in rois},
        roi_labels={
            roi: {int(key): value for key, value in table.items()} for roi, table in labels.items()
        },
        attributes=_read_attributes(group),
        ijk=values("ijk"),
        affine=values("affine"),
        trial=values("trial"),
    )


def _read_attributes(node: h5py.Group) -> dict[str, Any]:
    return {name: json.loads(value) for name, value in node.attrs.items()}
