"""`BrainDataset`: images and every subject's responses to them, in one HDF5 file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainit_clusters._files import existing, replacing
from brainit_clusters.data.rows import row_blocks

SCHEMA_VERSION = 1
SPLITS = ("train", "val", "test")
_BLOCK = 256


class ImageArray(Protocol):
    """What `write_dataset` needs of images: an array, or anything that is sliced like one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[n, H, W, 3]."""

    def __getitem__(self, rows: slice, /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True, eq=False)
class SubjectData:
    """One subject: responses of its voxels to its images, and where these voxels lie.

    A voxel here is a vertex of the cortical mesh or a cell of a volume; its column never changes
    place. A row is an image (mean over its repeats) or, with `trial`, a single trial.

    Attributes:
        name: "subj01" and so on.
        betas: float32 [n_rows, n_voxels], z-scored. `write_dataset` takes anything that has a
            shape and is sliced by rows, so that they need not be in memory.
        image_id: int64 [n_rows], 0-based; ascending without doubles unless rows are trials.
        repeats: int16 [n_rows], trials averaged in each row.
        split: str [n_rows], "train", "val" or "test".
        vertex: int32 [n_voxels], vertex number in its hemisphere, 0-based.
        hemisphere: uint8 [n_voxels], 0 left, 1 right, 2 neither: `vertex` is then the voxel's
            index in the flattened volume (last axis fastest) or, of an array, its column.
        noise_ceiling: float32 [n_voxels] in [0, 1], share of the variance (R^2) of `betas` that
            a perfect model could explain; NaN where no image was repeated.
        roi: atlas name -> int32 [n_voxels] labels (0: none).
        roi_labels: atlas name -> label -> name.
        ijk: int32 [n_voxels, 3], 0-based place in the volume; None on a mesh.
        affine: float64 [4, 4], from `ijk` to millimetres; None where `ijk` is.
        trial: int32 [n_rows], ascending: which of the subject's trials (0-based, of all that
            happened) each row is; None where rows are averages.
        attributes: what else is known, such as how many vertices were dropped (JSON values).
    """

    name: str
    betas: NDArray[np.float32]
    image_id: NDArray[np.int64]
    repeats: NDArray[np.int16]
    split: NDArray[np.str_]
    vertex: NDArray[np.int32]
    hemisphere: NDArray[np.uint8]
    noise_ceiling: NDArray[np.float32]
    roi: Mapping[str, NDArray[np.int32]] = field(default_factory=dict)
    roi_labels: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    ijk: NDArray[np.int32] | None = None
    affine: NDArray[np.float64] | None = None
    trial: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        n_rows, n_voxels = self.betas.shape
        per_row = ("image_id", "repeats", "split")
        per_voxel = ("vertex", "hemisphere", "noise_ceiling")
        for names, length in ((per_row, n_rows), (per_voxel, n_voxels)):
            for name in names:
                self._check(name, getattr(self, name), length)
        for name, labels in self.roi.items():
            self._check(f"roi/{name}", labels, n_voxels)
        self._check_volume(n_voxels)
        if self.trial is not None:
            self._check("trial", self.trial, n_rows)
        name = "image_id" if self.trial is None else "trial"
        if np.any(np.diff(getattr(self, name)) <= 0):
            raise ValueError(f"{self.name}: {name} must ascend without doubles")
        if unknown := set(np.unique(self.split)) - set(SPLITS):
            raise ValueError(f"{self.name}: split holds {sorted(unknown)}, expected {SPLITS}")

    def _check(self, name: str, values: NDArray[Any], length: int) -> None:
        if values.shape != (length,):
            raise ValueError(f"{self.name}: {name} has shape {values.shape}, expected ({length},)")

    def _check_volume(self, n_voxels: int) -> None:
        for name, shape in (("ijk", (n_voxels, 3)), ("affine", (4, 4))):
            values = getattr(self, name)
            if (values is None) != (self.ijk is None):
                raise ValueError(f"{self.name}: ijk and affine go together, one of them is None")
            if values is not None and values.shape != shape:
                raise ValueError(f"{self.name}: {name} has shape {values.shape}, expected {shape}")

    @property
    def n_voxels(self) -> int:
        """Number of voxels."""
        return len(self.vertex)

    def rows(self, split: str) -> NDArray[np.intp]:
        """Rows of `betas` that belong to a split ("train", "val" or "test"), ascending.

        Raises:
            ValueError: if there is no such split.
        """
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}, expected one of {SPLITS}")
        return np.flatnonzero(self.split == split)


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
    store = file.create_dataset("images", shape, np.uint8, chunks=(1, *shape[1:]))
    for start in range(0, shape[0], _BLOCK):
        store[start : start + _BLOCK] = images[slice(start, start + _BLOCK)]


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


class BrainDataset:
    """A dataset file, open for reading; also a context manager.

    Attributes:
        path: The file.
        attributes: Source, betas, space, mask, normalisation, test set, input hashes, ...
        subjects: Names of the subjects, sorted.
        image_ids: int64 [n], ids of all images, ascending.
        coco_ids: int64 [n], their ids in COCO; None where they are not known.
    """

    def __init__(self, file: h5py.File, path: Path) -> None:
        self._file = file
        self.path = path
        self.attributes: dict[str, Any] = _read_attributes(file)
        self.subjects: list[str] = sorted(file["subjects"])
        self.image_ids: NDArray[np.int64] = file["image_id"][:]
        self.coco_ids: NDArray[np.int64] | None = file["coco_id"][:] if "coco_id" in file else None

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a file that `write_dataset` wrote.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is not such a file, or of another schema version.
        """
        path = existing(Path(path), "a dataset (dataset.h5)")
        try:
            file = h5py.File(path, "r")
        except OSError as error:
            raise ValueError(f"{path}: not a readable HDF5 file ({error})") from error
        version = file.attrs.get("schema_version")
        if version is None or json.loads(version) != SCHEMA_VERSION:
            file.close()
            raise ValueError(f"{path}: schema_version is {version}, expected {SCHEMA_VERSION}")
        return cls(file, path)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def image_size(self) -> int:
        """Height (and width) of the images in pixels."""
        return int(self._file["images"].shape[1])

    def images(self, ids: ArrayLike | Sequence[int]) -> NDArray[np.uint8]:
        """Images by their ids, in the given order; an id may come more than once.

        Args:
            ids: [n] 0-based image ids.

        Returns:
            uint8 [n, H, W, 3].

        Raises:
            ValueError: if an id is not in the file.
        """
        wanted, inverse = np.unique(np.asarray(ids, dtype=np.int64), return_inverse=True)
        rows = np.searchsorted(self.image_ids, wanted)
        known = rows < len(self.image_ids)
        known[known] = self.image_ids[rows[known]] == wanted[known]
        if not known.all():
            raise ValueError(f"{self.path}: no image with id {wanted[~known][0]}")
        store = self._file["images"]
        images = np.empty((len(rows), *store.shape[1:]), np.uint8)
        # Plain slabs: h5py's index lists cost more with every entry.
        for start in range(0, len(self.image_ids), _BLOCK):
            here = slice(*np.searchsorted(rows, (start, start + _BLOCK)))
            if here.start < here.stop:
                images[here] = store[start : start + _BLOCK][rows[here] - start]
        return images[inverse]

    def subject(self, name: str) -> SubjectData:
        """Read a subject into memory, betas as float32.

        Raises:
            ValueError: if there is no such subject.
        """
        group = self._group(name)
        return read_subject(group, name, group["betas"][:].astype(np.float32))

    def describe(self, name: str) -> dict[str, Any]:
        """A subject without its betas: n_voxels, rows of each split, attributes (JSON values).

        Raises:
            ValueError: if there is no such subject.
        """
        group = self._group(name)
        data = read_subject(group, name, group["betas"])
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
