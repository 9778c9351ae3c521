"""The other spaces that NSD's betas come in: the same voxels, elsewhere, as whole numbers.

The native surface is the fsaverage5 mesh. In volumes each subject's voxels lie scattered, in the
order that they have on the surface. int16 files hold 300 times the percent signal change, rounded;
they cannot hold NaN, so voxels that a subject lacks in a session are 0 there. Places outside the
mask hold noise. Volumes are written as HDF5, a chunk a voxel, and as NIfTI.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainit.simulation.areas import HEMISPHERES, AreaMap
from brainit.simulation.files import write_hdf5, write_mgh, write_nifti
from brainit.simulation.labels import LABELS, subject_label

SCALE = 300
N_VERTICES = 10242
VOLUMES = {"func1pt8mm": ((24, 28, 20), 1.8), "func1mm": ((30, 35, 25), 1.0)}
"""Cells along X, Y, Z, and their width in mm."""


@dataclass(frozen=True)
class OwnVoxels:
    """What one subject's voxels measured.

    Attributes:
        areas: Their vertices, the left hemisphere's first.
        betas: Percent signal change, float32 [n_trials, n_voxels].
        ncsnr: float32 [n_voxels].
        lost: Vertices of each hemisphere that are lacking in the last session.
        trials_per_session: Length of a session.
    """

    areas: AreaMap
    betas: NDArray[np.float32]
    ncsnr: NDArray[np.float32]
    lost: Sequence[NDArray[np.int32]]
    trials_per_session: int

    def sessions(self) -> list[NDArray[np.int16]]:
        """Each session as NSD's whole numbers, [n_trials, n_voxels]."""
        values = np.rint(SCALE * self.betas).astype(np.int16)
        values[-self.trials_per_session :, self.is_lost] = 0
        return np.split(values, len(values) // self.trials_per_session)

    @property
    def is_lost(self) -> NDArray[np.bool_]:
        """Which voxels are lacking in the last session."""
        sides = [
            np.isin(self.areas.vertex, lost) & (self.areas.hemisphere == h)
            for h, lost in enumerate(self.lost)
        ]
        return np.asarray(sides[0] | sides[1])

    @property
    def known_ncsnr(self) -> NDArray[np.float32]:
        """``ncsnr``, NaN where a voxel is lacking."""
        return np.where(self.is_lost, np.float32(np.nan), self.ncsnr)


def write_native(
    output: Path, name: str, folder: Path, own: OwnVoxels, seed: Sequence[int]
) -> None:
    """Write a subject's own surface: betas and noise; its labels are there already.

    Args:
        output: The tree.
        name: "subj01" and so on.
        folder: For the betas.
        own: The subject's voxels.
        seed: Of the noise outside the mask.
    """
    rng = np.random.default_rng(seed)
    for h, hemisphere in enumerate(HEMISPHERES):
        mine = own.areas.hemisphere == h
        vertex = own.areas.vertex[mine]
        snr = np.zeros(N_VERTICES, np.float32)
        snr[vertex] = own.known_ncsnr[mine]
        write_mgh(folder / f"{hemisphere}.ncsnr.mgh", snr)
        for number, session in enumerate(own.sessions(), start=1):
            values = _noise(rng, len(session), N_VERTICES)
            values[:, vertex] = session[:, mine]
            path = folder / f"{hemisphere}.betas_session{number:02d}.hdf5"
            write_hdf5(path, "betas", values, (len(values), 1))


def write_volume(
    space: str, output: Path, name: str, folder: Path, own: OwnVoxels, seed: Sequence[int]
) -> None:
    """Write a subject's volume: betas, noise and labels; see `write_native`."""
    rng = np.random.default_rng(seed)
    shape, width = VOLUMES[space]
    n_cells = int(np.prod(shape))
    cell = np.sort(rng.choice(n_cells, len(own.areas), replace=False))
    snr = np.zeros(n_cells, np.float32)
    snr[cell] = own.known_ncsnr
    write_nifti(folder / "ncsnr.nii.gz", snr.reshape(shape), width)
    for label in LABELS:
        codes = np.zeros(n_cells, np.int16)
        codes[cell] = subject_label(own.areas, label)[own.areas.hemisphere, own.areas.vertex]
        path = output / "nsddata/ppdata" / name / space / "roi" / f"{label}.nii.gz"
        write_nifti(path, codes.reshape(shape), width)
    for number, session in enumerate(own.sessions(), start=1):
        values = _noise(rng, len(session), n_cells)
        values[:, cell] = session
        values = values.reshape(-1, *shape)
        stem = f"betas_session{number:02d}"
        write_nifti(folder / f"{stem}.nii.gz", np.moveaxis(values, 0, -1), width)
        reverse = np.transpose(values, (0, 3, 2, 1))
        write_hdf5(folder / f"{stem}.hdf5", "betas", reverse, (len(values), 1, 1, 1))


def _noise(rng: np.random.Generator, n_trials: int, n_places: int) -> NDArray[np.int16]:
    noise = SCALE * rng.standard_normal((n_trials, n_places), np.float32)
    return np.rint(noise).astype(np.int16)


Writer = Callable[[Path, str, Path, OwnVoxels, Sequence[int]], None]
ROUTES: dict[str, Writer] = {
    "nativesurface": write_native,
    **{space: partial(write_volume, space) for space in VOLUMES},
}


def check_routes(routes: Sequence[str]) -> None:
    """Check the names of routes.

    Raises:
        ValueError: If one is unknown, or fsaverage is not among them.
    """
    known = ("fsaverage", *ROUTES)
    if unknown := sorted(set(routes) - set(known)):
        raise ValueError(f"route {unknown[0]!r}: expected one of {', '.join(known)}")
    if "fsaverage" not in routes:
        raise ValueError("routes: fsaverage is always written, expected it among them")
