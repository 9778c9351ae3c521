"""Vertices of cortical meshes: those that ship with nilearn, or files of finer ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nibabel.freesurfer.io import read_geometry
from nibabel.gifti.gifti import GiftiImage
from numpy.typing import NDArray

from brainit_clusters._files import existing


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
            image = GiftiImage.from_filename(path)
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
