"""Labels of voxels from an atlas file of somebody else."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.freesurfer.io import read_annot
from nibabel.gifti.gifti import GiftiImage
from numpy.typing import NDArray

from brainit_clusters._files import existing
from brainit_clusters.data.record import SubjectData
from brainit_clusters.data.scans import load, reading
from brainit_clusters.meshes import at_vertices

_WHAT = "an atlas"


def read_atlas(pattern: str, subject: SubjectData) -> NDArray[np.int32]:
    """Labels of a subject's voxels: int32 [N_s], 0 where the file has none.

    Args:
        pattern: For voxels of a volume a NIfTI file on the grid of the betas. For vertices a file a
            hemisphere with one label a vertex: FreeSurfer (``.annot``, ``.mgh``, ``.mgz``), GIFTI
            or ``.npy``; "?h." in the name stands for "lh." and "rh.". "{subject}" stands for the
            subject's name.
        subject: Whose voxels.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: naming the file that is no such atlas, or not of the subject's space.
    """
    name = pattern.replace("{subject}", subject.name)
    if subject.ijk is not None:
        path = Path(name)
        labels = _labels(path, _values(path, nib.Nifti1Image))
        shape = subject.attributes.get("volume_shape", labels.shape)
        if labels.ndim != 3 or labels.shape != tuple(shape) or (subject.ijk >= labels.shape).any():
            raise ValueError(f"{path}: shape {labels.shape}, expected the betas' {tuple(shape)}")
        found: NDArray[np.int32] = labels[tuple(subject.ijk.T)]
        return found
    if "?h." not in name:
        raise ValueError(f"{name}: expected '?h.' in its name, for lh. and rh.")
    sides = [_side(Path(name.replace("?h.", f"{side}."))) for side in ("lh", "rh")]
    on_mesh: NDArray[np.int32] = at_vertices(subject, sides)
    return on_mesh


def _side(path: Path) -> NDArray[np.int32]:
    """One label a vertex of one hemisphere."""
    existing(path, _WHAT)
    with reading(path), np.errstate(over="ignore"):  # of sizes that a damaged header claims
        if path.suffix == ".annot":
            return _labels(path, _annotation(path))
        if path.suffix == ".npy":
            return _labels(path, np.load(path, allow_pickle=False).ravel())
        if ".gii" in path.suffixes:
            return _labels(path, load(path, _WHAT, GiftiImage).darrays[0].data.ravel())
        return _labels(path, _values(path, nib.MGHImage).ravel())


def _annotation(path: Path) -> NDArray[Any]:
    try:
        labels: NDArray[Any] = read_annot(path)[0]
    except Exception as error:  # nibabel raises bare ones too
        raise ValueError(f"{path}: not an annotation ({error})") from error
    return labels


def _values(path: Path, kind: type[Any]) -> NDArray[Any]:
    image = load(path, _WHAT, kind)
    with reading(path):
        values = np.asarray(image.dataobj)
        return values.reshape(values.shape[:3]) if math.prod(values.shape[3:]) == 1 else values


def _labels(path: Path, values: NDArray[Any]) -> NDArray[np.int32]:
    """Labels from 0; FreeSurfer's -1 is no label."""
    if values.dtype.kind not in "iuf" or not values.size or (values != np.rint(values)).any():
        raise ValueError(f"{path}: holds {values.dtype}, expected a whole number a place")
    labels: NDArray[np.int32] = np.maximum(values, 0).astype(np.int32)
    return labels
