"""What the pictures have in common: the mesh, and voxels' values on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainit_clusters._extras import import_extra
from brainit_clusters.colours import distinct_colours
from brainit_clusters.data.record import SubjectData

if TYPE_CHECKING:
    from matplotlib.colors import ListedColormap

N_VERTICES = 10_242
SIDES = ("left", "right")


def fsaverage5() -> Any:
    """The files of the mesh that ships with nilearn.

    Raises:
        ModuleNotFoundError: naming the extra, if it is not installed.
    """
    need_extra()
    from nilearn.datasets import fetch_surf_fsaverage

    return fetch_surf_fsaverage("fsaverage5")


def need_extra() -> None:
    """Check that what pictures need is installed.

    Raises:
        ModuleNotFoundError: naming the extra, if it is not.
    """
    for name in ("matplotlib", "nilearn", "plotly"):
        import_extra(name, "plot")


def on_mesh(subject: SubjectData, values: ArrayLike) -> list[NDArray[np.float64]]:
    """Values of each hemisphere's fsaverage5 vertices, NaN where there is no voxel: 2 x [10,242].

    Args:
        subject: With voxels on fsaverage, of any density: fsaverage5's vertices are the first.
        values: [n_voxels].

    Raises:
        ValueError: if there is not one value a voxel, or the voxels are not on a mesh.
    """
    numbers = np.asarray(values, np.float64)
    if numbers.shape != (subject.n_voxels,):
        raise ValueError(f"values have shape {numbers.shape}, expected ({subject.n_voxels},)")
    if subject.hemisphere.max(initial=0) > 1:
        raise ValueError(f"{subject.name}: its voxels are not vertices of a mesh, nothing to draw")
    surfaces = []
    for side in range(2):
        drawn = (subject.hemisphere == side) & (subject.vertex < N_VERTICES)
        surface = np.full(N_VERTICES, np.nan)
        surface[subject.vertex[drawn]] = numbers[drawn]
        surfaces.append(surface)
    return surfaces


def limits_of(values: ArrayLike) -> tuple[float, float]:
    """Smallest and largest finite value; 0 and 1 where there is none."""
    numbers = np.asarray(values, np.float64)
    finite = numbers[np.isfinite(numbers)]
    return (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)


def label_values(
    labels: ArrayLike,
) -> tuple[NDArray[np.float64], ListedColormap, tuple[float, float]]:
    """Labels as values to draw (NaN below 0), their colours, and the limits of these."""
    need_extra()
    from matplotlib.colors import ListedColormap

    numbers = np.asarray(labels)
    count = max(int(numbers.max(initial=0)) + 1, 2)
    colours = ListedColormap(distinct_colours(count))
    return np.where(numbers < 0, np.nan, numbers), colours, (-0.5, count - 0.5)
