"""Vertices of cortical meshes: those that ship with nilearn, or files of finer ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.freesurfer.io import read_geometry
from nibabel.gifti.gifti import GiftiImage
from numpy.typing import NDArray

from brainit_clusters._files import existing
from brainit_clusters.data.record import SubjectData
from brainit_clusters.data.scans import load


def load_vertices(path: str | Path) -> NDArray[np.float64]:
    """Read a mesh's vertices: [V, 3], millimetres.

    Args:
        path: GIFTI (`.surf.gii`, `.gii.gz`) or FreeSurfer geometry (`lh.white`,
            `lh.sphere.reg`).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no mesh.
    """
    path = existing(Path(path), "a cortical mesh")
    try:
        if ".gii" in path.suffixes:
            image = load(path, "a cortical mesh", GiftiImage)
            points = image.get_arrays_from_intent("NIFTI_INTENT_POINTSET")[0].data
        else:
            points = read_geometry(path)[0]
    except Exception as error:  # parsers of both formats raise almost anything
        raise ValueError(f"{path}: not a cortical mesh ({error})") from error
    return np.asarray(points, np.float64)


def fsaverage5_vertices(kind: str) -> list[NDArray[np.float64]]:
    """Vertices of fsaverage5 as it ships with nilearn (extra `[plot]`): left and right, [10242, 3].

    Args:
        kind: "sphere", "white", "pial" or "infl".
    """
    from nilearn.datasets import fetch_surf_fsaverage

    mesh = fetch_surf_fsaverage("fsaverage5")
    return [load_vertices(mesh[f"{kind}_{side}"]) for side in ("left", "right")]


def at_vertices(subject: SubjectData, sides: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """What a subject's vertices have of what is known of whole hemispheres.

    Args:
        subject: On a mesh, N_s voxels.
        sides: Left and right, [V, ...] of one type.

    Returns:
        [N_s, ...].

    Raises:
        ValueError: if it is not known where a voxel lies, or it is not a vertex of the meshes.
    """
    if subject.hemisphere.max(initial=0) >= len(sides):
        raise ValueError(f"{subject.name}: where its voxels lie is not known")
    result = np.empty((subject.n_voxels, *sides[0].shape[1:]), sides[0].dtype)
    for side, values in enumerate(sides):
        mine = subject.hemisphere == side
        if subject.vertex[mine].max(initial=0) >= len(values):
            raise ValueError(
                f"{subject.name}: vertex {subject.vertex[mine].max()} is not on a mesh of "
                f"{len(values)} vertices"
            )
        result[mine] = values[subject.vertex[mine]]
    return result
