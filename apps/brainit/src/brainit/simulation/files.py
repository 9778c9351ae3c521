"""Files of a simulated tree: whole or not there, and the same bytes each time."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path

import h5py
import nibabel
import numpy as np
from numpy.typing import NDArray


def write_mgh(path: Path, values: NDArray[np.float32]) -> None:
    """Write values [n_vertices] or [n_vertices, n_frames] as a FreeSurfer surface overlay."""
    image = nibabel.MGHImage(np.expand_dims(values, (1, 2)), np.eye(4))
    write_bytes(path, image.to_bytes())


def write_nifti(path: Path, values: NDArray[np.generic], voxel: float) -> None:
    """Write a volume [X, Y, Z] or [X, Y, Z, n_frames] as `.nii.gz`, of voxels `voxel` mm wide."""
    image = nibabel.Nifti1Image(values, np.diag([voxel, voxel, voxel, 1]))
    write_bytes(path, gzip.compress(image.to_bytes(), mtime=0))


def write_hdf5(
    path: Path, name: str, values: NDArray[np.generic], chunks: tuple[int, ...] | None = None
) -> None:
    """Write an HDF5 file of one dataset."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", track_order=False) as file:
        file.create_dataset(name, data=values, chunks=chunks, track_times=False)
    write_bytes(path, buffer.getvalue())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, making its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)
