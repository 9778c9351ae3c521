"""NSD's surfaces: fsaverage (`.mgh`) and each subject's own (`.hdf5`)."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from brainit_clusters.data.nsd.hdf5 import check_hdf5, read_hdf5
from brainit_clusters.data.nsd.space import Files, Map, check_map_size, subject_name
from brainit_clusters.data.places import Places
from brainit_clusters.data.scans import load, reading

_SIDES = ("lh", "rh")


@dataclass(frozen=True)
class Surface:
    """Both hemispheres of a cortical mesh; see `Space`.

    Attributes:
        name: "fsaverage": one mesh for all subjects; "nativesurface": each subject's own.
    """

    name: str

    def label_files(self, root: Path, subject: int, atlas: str) -> Files:
        """See `Space`."""
        return self.own_files(f"{self._labels(root, subject)}/?h.{atlas}.mgz")

    def atlases(self, root: Path, subject: int) -> list[str]:
        """See `Space`."""
        folder = self._labels(root, subject)
        left, right = (
            {path.name[3:-4] for path in folder.glob(f"{side}.*.mgz")} for side in _SIDES
        )
        return sorted(left & right)

    def colour_table(self, root: Path, subject: int, atlas: str) -> Path:
        """See `Space`."""
        return self._labels(root, subject) / f"{atlas}.mgz.ctab"

    def own_files(self, pattern: str) -> Files:
        """See `Space`.

        Raises:
            ValueError: if the pattern does not name both hemispheres.
        """
        if "?h." not in pattern:
            raise ValueError(f"{pattern}: expected '?h.' in its name, for lh. and rh.")
        return tuple(Path(pattern.replace("?h.", f"{side}.")) for side in _SIDES)

    def noise_files(self, folder: Path) -> Files:
        """See `Space`."""
        return self.own_files(f"{folder}/?h.ncsnr.mgh")

    def beta_files(self, folder: Path, stem: str) -> Files:
        """See `Space`."""
        return self.own_files(f"{folder}/?h.{stem}.{'mgh' if self._is_common else 'hdf5'}")

    def read_map(self, files: Files, what: str) -> Map:
        """See `Space`."""
        sides = [_read_side(path, what) for path in files]
        return Map(np.concatenate(sides), tuple(map(len, sides)))

    def check_betas(self, files: Files, shape: tuple[int, ...], n_trials: int) -> None:
        """See `Space`."""
        for path, n_vertices in zip(files, shape, strict=True):
            if self._is_common:
                _open_mgh(path, n_vertices, n_trials)
            else:
                check_hdf5(path, (n_trials, n_vertices))

    def read_betas(
        self, files: Files, shape: tuple[int, ...], chosen: NDArray[np.intp], n_trials: int
    ) -> NDArray[np.float32]:
        """See `Space`."""
        values = np.empty((n_trials, len(chosen)), np.float32)
        n_left = int(np.searchsorted(chosen, shape[0]))
        vertices = (chosen[:n_left], chosen[n_left:] - shape[0])
        parts = (values[:, :n_left], values[:, n_left:])
        read = _read_mgh if self._is_common else _read_native
        with ThreadPoolExecutor(len(files)) as pool:
            list(pool.map(read, files, shape, vertices, parts))
        return values

    def places(self, of: Map, chosen: NDArray[np.intp]) -> Places:
        """See `Space`."""
        n_left = of.shape[0]
        sides = (chosen[chosen < n_left], chosen[chosen >= n_left] - n_left)
        return Places.surface(sides, of.shape)

    @property
    def _is_common(self) -> bool:
        return self.name == "fsaverage"

    def _labels(self, root: Path, subject: int) -> Path:
        mesh = "fsaverage" if self._is_common else subject_name(subject)
        return root / "nsddata/freesurfer" / mesh / "label"


def _read_side(path: Path, what: str) -> NDArray[Any]:
    image = load(path, what, nib.MGHImage)
    check_map_size(path, image.shape)
    if max(image.shape, default=0) != np.prod(image.shape):
        raise ValueError(f"{path}: shape {image.shape}, expected one value a vertex")
    with reading(path):
        return np.asarray(image.dataobj).ravel()


def _open_mgh(path: Path, n_vertices: int, n_trials: int) -> int:
    """Check betas of one hemisphere; the byte at which they begin."""
    image = load(path, "betas", nib.MGHImage)
    shape = (*image.shape, 1)[:4]
    if shape != (n_vertices, 1, 1, n_trials):
        raise ValueError(f"{path}: shape {shape}, expected ({n_vertices}, 1, 1, {n_trials})")
    if image.get_data_dtype() != np.dtype(">f4"):
        raise ValueError(f"{path}: betas are {image.get_data_dtype()}, expected float32")
    return int(image.dataobj.offset)


def _read_mgh(
    path: Path, n_vertices: int, vertices: NDArray[np.intp], values: NDArray[np.float32]
) -> None:
    """Betas of one hemisphere into `values` [n_trials, n]: percent signal change as it stands."""
    if not len(vertices):
        return
    # One trial at a time stays in the processor's cache; only the chosen vertices are swapped.
    trial = np.empty(n_vertices, np.float32)
    start = _open_mgh(path, n_vertices, len(values))
    with reading(path), path.open("rb") as file:
        file.seek(start)
        for number, row in enumerate(values, start=1):
            if file.readinto(trial.data) != trial.nbytes:
                raise EOFError(f"ends in trial {number} of {len(values)}")
            np.take(trial, vertices, out=row, mode="clip")  # any other mode buffers `out`
            if sys.byteorder == "little":
                row.byteswap(inplace=True)


def _read_native(
    path: Path, n_vertices: int, vertices: NDArray[np.intp], values: NDArray[np.float32]
) -> None:
    if len(vertices):
        read_hdf5(path, (len(values), n_vertices), vertices, values)
