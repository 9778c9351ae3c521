"""NSD's volumes at 1.8 mm and 1 mm: betas in `.hdf5` or, where that is not there, in `.nii.gz`."""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from brainit_clusters._files import existing
from brainit_clusters.data.nsd.hdf5 import check_hdf5, read_hdf5
from brainit_clusters.data.nsd.space import SCALE, Files, Map, check_map_size, subject_name
from brainit_clusters.data.places import Places
from brainit_clusters.data.scans import load, reading

_SUFFIX = ".nii.gz"
_LARGEST_OFFSET = 2**24


@dataclass(frozen=True)
class Volume:
    """Cells of a subject's own volume; see `Space`.

    Attributes:
        name: "func1pt8mm" or "func1mm".
    """

    name: str

    def label_files(self, root: Path, subject: int, atlas: str) -> Files:
        """See `Space`."""
        return (self._labels(root, subject) / f"{atlas}{_SUFFIX}",)

    def atlases(self, root: Path, subject: int) -> list[str]:
        """See `Space`; an atlas of both hemispheres, not its copies for one."""
        names = {p.name.removesuffix(_SUFFIX) for p in self._labels(root, subject).glob("*.nii.gz")}
        return sorted(name for name in names if not name.startswith(("lh.", "rh.")))

    def colour_table(self, root: Path, subject: int, atlas: str) -> Path:
        """See `Space`; NSD keeps it with the surfaces."""
        folder = root / "nsddata/freesurfer" / subject_name(subject) / "label"
        return folder / f"{atlas}.mgz.ctab"

    def own_files(self, pattern: str) -> Files:
        """See `Space`."""
        return (Path(pattern),)

    def noise_files(self, folder: Path) -> Files:
        """See `Space`."""
        return (folder / f"ncsnr{_SUFFIX}",)

    def beta_files(self, folder: Path, stem: str) -> Files:
        """See `Space`."""
        path = folder / f"{stem}.hdf5"
        packed = folder / f"{stem}{_SUFFIX}"
        return (packed,) if packed.is_file() and not path.is_file() else (path,)

    def read_map(self, files: Files, what: str) -> Map:
        """See `Space`."""
        (path,) = files
        image = load(path, what, nib.Nifti1Image)
        shape = image.shape[:3]
        check_map_size(path, image.shape)
        if len(shape) < 3 or math.prod(image.shape) != math.prod(shape):
            raise ValueError(f"{path}: shape {image.shape}, expected (X, Y, Z)")
        with reading(path):
            values = np.asarray(image.dataobj).reshape(-1)
        return Map(values, shape, np.asarray(image.affine, np.float64))

    def check_betas(self, files: Files, shape: tuple[int, ...], n_trials: int) -> None:
        """See `Space`."""
        (path,) = files
        if path.suffix == ".hdf5":
            check_hdf5(path, (n_trials, *shape[::-1]))
            return
        existing(path, "betas")
        with reading(path), gzip.open(path) as file:
            _read_header(cast(BinaryIO, file), path, (*shape, n_trials))

    def read_betas(
        self, files: Files, shape: tuple[int, ...], chosen: NDArray[np.intp], n_trials: int
    ) -> NDArray[np.float32]:
        """See `Space`; both kinds of file run through X first, so the voxels are taken that way."""
        (path,) = files
        place = np.ravel_multi_index(np.unravel_index(chosen, shape), shape, order="F")
        order = np.argsort(place)
        values = np.empty((n_trials, len(chosen)), np.float32)
        if path.suffix == ".hdf5":
            read_hdf5(path, (n_trials, *shape[::-1]), place[order], values)
        else:
            _read_nifti(path, (*shape, n_trials), place[order], values)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        for row in values:
            row[:] = row[back]
        return values

    def places(self, of: Map, chosen: NDArray[np.intp]) -> Places:
        """See `Space`."""
        assert of.affine is not None
        inside = np.zeros(of.shape, bool)
        inside.ravel()[chosen] = True
        return Places.volume(inside, of.affine)

    def _labels(self, root: Path, subject: int) -> Path:
        return root / "nsddata/ppdata" / subject_name(subject) / self.name / "roi"


def _read_header(file: BinaryIO, path: Path, shape: tuple[int, ...]) -> np.dtype[Any]:
    """Check a NIfTI header, and go on to where the values begin; their type."""
    header = nib.Nifti1Header.from_fileobj(file)
    if header.get_data_shape() != shape:
        raise ValueError(f"{path}: shape {header.get_data_shape()}, expected {shape}")
    dtype: np.dtype[Any] = header.get_data_dtype()
    if dtype.kind != "i" or dtype.itemsize != 2:
        raise ValueError(f"{path}: betas are {dtype}, expected int16")
    slope, inter = header.get_slope_inter()
    if slope not in (None, 1) or inter not in (None, 0):
        raise ValueError(f"{path}: scl_slope is {slope}, scl_inter {inter}, expected no scaling")
    start = header.get_data_offset()
    if not file.tell() <= start <= _LARGEST_OFFSET:
        raise ValueError(f"{path}: vox_offset is {start}, expected {file.tell()} or a little more")
    file.read(start - file.tell())
    return dtype


def _read_nifti(
    path: Path, shape: tuple[int, ...], chosen: NDArray[np.intp], values: NDArray[np.float32]
) -> None:
    """Betas of chosen cells, first axis fastest, into [n_trials, n], a trial at a time."""
    existing(path, "betas")
    with reading(path), gzip.open(path) as packed:
        file = cast(BinaryIO, packed)
        trial = np.empty(math.prod(shape[:3]), _read_header(file, path, shape))
        for row, value in enumerate(values, start=1):
            if packed.readinto(trial.data) != trial.nbytes:
                raise EOFError(f"ends in trial {row} of {len(values)}")
            value[:] = trial[chosen]
        file.read(1)  # at the end the checksum is compared
    values /= SCALE
