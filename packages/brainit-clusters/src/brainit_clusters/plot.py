"""Values of voxels drawn on the inflated cortex (extra `[plot]`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainit_clusters.data.dataset import SubjectData

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

N_VERTICES = 10_242
_SIDES = ("left", "right")
_VIEWS = ("lateral", "posterior", "medial", "ventral")


def plot_clusters(
    subject: SubjectData, labels: ArrayLike, path: str | Path | None = None, title: str = ""
) -> Figure:
    """Draw each voxel's cluster in a colour of its own; see `plot_values`.

    Args:
        subject: Says where its voxels lie.
        labels: int [n_voxels], clusters from 0.
        path: PNG file to write, if any.
        title: Above the picture.
    """
    labels = np.asarray(labels)
    n_clusters = int(labels.max(initial=0)) + 1
    return plot_values(
        subject, labels, path, title, _distinct_colours(n_clusters), (0, n_clusters - 1), bar=False
    )


def plot_values(
    subject: SubjectData,
    values: ArrayLike,
    path: str | Path | None = None,
    title: str = "",
    colours: str | Colormap = "inferno",
    limits: tuple[float, float] | None = None,
    bar: bool = True,
) -> Figure:
    """Draw one value a voxel on the inflated fsaverage5 surface, both hemispheres.

    Vertices of finer fsaverage meshes are drawn where fsaverage5 has them: its vertices are the
    first 10,242 of theirs. Voxels whose value is NaN stay grey like the rest of the cortex.

    Args:
        subject: Says where its voxels lie.
        values: [n_voxels].
        path: PNG file to write, if any.
        title: Above the picture.
        colours: A matplotlib colour map or its name.
        limits: Values of the first and of the last colour; None: those of the data.
        bar: Show a colour bar.

    Returns:
        The matplotlib figure; close it with `matplotlib.pyplot.close`.

    Raises:
        ValueError: if there is not one value a voxel.
    """
    import matplotlib.pyplot as plt
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from nilearn.datasets import fetch_surf_fsaverage
    from nilearn.plotting import plot_surf

    values = np.asarray(values, np.float64)
    if values.shape != (subject.n_voxels,):
        raise ValueError(f"values have shape {values.shape}, expected ({subject.n_voxels},)")
    finite = values[np.isfinite(values)]
    low, high = limits or ((finite.min(), finite.max()) if len(finite) else (0.0, 1.0))
    mesh = fetch_surf_fsaverage("fsaverage5")
    figure = plt.figure(figsize=(11, 5.2), facecolor="white")
    for row, side in enumerate(_SIDES):
        for column, view in enumerate(_VIEWS):
            box = (0.25 * column, 0.47 - 0.45 * row, 0.25, 0.46)
            axes = figure.add_axes(box, projection="3d")
            plot_surf(
                mesh[f"infl_{side}"],
                _on_mesh(subject, values, row),
                bg_map=mesh[f"sulc_{side}"],
                hemi=side,
                view=view,
                cmap=colours,
                vmin=low,
                vmax=high,
                avg_method="median",
                colorbar=False,
                axes=axes,
                figure=figure,
            )
            axes.set_box_aspect(None, zoom=1.4)  # type: ignore[call-arg]
        figure.text(0.01, 0.7 - 0.45 * row, side, rotation=90, va="center", color="0.4")
    figure.suptitle(title, y=0.985, fontsize=13)
    if bar:
        scale = ScalarMappable(Normalize(low, high), plt.get_cmap(colours))
        axes = figure.add_axes((0.4, 0.05, 0.2, 0.02))
        figure.colorbar(scale, cax=axes, orientation="horizontal")
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _on_mesh(
    subject: SubjectData, values: NDArray[np.float64], hemisphere: int
) -> NDArray[np.float64]:
    """Values of one hemisphere's vertices, NaN where there is no voxel: [10,242]."""
    drawn = (subject.hemisphere == hemisphere) & (subject.vertex < N_VERTICES)
    surface = np.full(N_VERTICES, np.nan)
    surface[subject.vertex[drawn]] = values[drawn]
    return surface


def _distinct_colours(count: int) -> Colormap:
    """Hues a golden angle apart at three levels of lightness: neighbours in number differ."""
    from matplotlib.colors import ListedColormap, hsv_to_rgb

    index = np.arange(count)
    hue = (index * 0.618034) % 1
    saturation, brightness = 0.85 - 0.25 * (index % 2), 1 - 0.22 * (index % 3)
    return ListedColormap(hsv_to_rgb(np.stack([hue, saturation, brightness], axis=1)))
