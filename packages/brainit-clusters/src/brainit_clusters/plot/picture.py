"""Both hemispheres of the inflated cortex from four sides, as a matplotlib figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from brainit_clusters._files import replacing
from brainit_clusters.data.record import SubjectData
from brainit_clusters.plot.cortex import SIDES, fsaverage5, label_values, limits_of, on_mesh

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

_VIEWS = ("lateral", "posterior", "medial", "ventral")


def plot_clusters(
    subject: SubjectData,
    labels: ArrayLike,
    path: str | Path | None = None,
    title: str = "",
    names: Mapping[int, str] | None = None,
) -> Figure:
    """Draw each voxel's cluster in a colour of its own; see `plot_values`.

    Args:
        subject: Says where its voxels lie.
        labels: int [n_voxels], clusters from 0; voxels below 0 stay grey.
        path: PNG file to write, if any.
        title: Above the picture.
        names: Label -> name, for a legend below it.
    """
    values, colours, limits = label_values(labels)
    figure = plot_values(subject, values, None, title, colours, limits, bar=False)
    if names:
        from matplotlib.patches import Patch

        present = np.unique(np.asarray(labels))
        handles = [Patch(color=colours(k), label=names[k]) for k in names if k in present]
        figure.legend(handles=handles, loc="lower center", ncols=8, frameon=False)
    return _saved(figure, path)


def plot_values(
    subject: SubjectData,
    values: ArrayLike,
    path: str | Path | None = None,
    title: str = "",
    colours: str | Colormap = "inferno",
    limits: tuple[float, float] | None = None,
    bar: bool = True,
    label: str = "",
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
        label: Of the colour bar.

    Returns:
        The matplotlib figure; close it with `matplotlib.pyplot.close`.

    Raises:
        ValueError: if there is not one value a voxel, or the voxels are not on a mesh.
        ModuleNotFoundError: without the extra `[plot]`.
    """
    surfaces = on_mesh(subject, values)
    mesh = fsaverage5()
    import matplotlib.pyplot as plt
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from nilearn.plotting import plot_surf

    low, high = limits or limits_of(values)
    figure = plt.figure(figsize=(11, 5.2), facecolor="white")
    for row, side in enumerate(SIDES):
        for column, view in enumerate(_VIEWS):
            box = (0.25 * column, 0.47 - 0.45 * row, 0.25, 0.46)
            axes = figure.add_axes(box, projection="3d")
            plot_surf(
                mesh[f"infl_{side}"],
                surfaces[row],
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
            axes.set_box_aspect(None, zoom=1.45)  # type: ignore[call-arg]
        figure.text(0.01, 0.7 - 0.45 * row, side, rotation=90, va="center", color="0.4")
    figure.suptitle(title, y=0.985, fontsize=13)
    if bar:
        scale = ScalarMappable(Normalize(low, high), plt.get_cmap(colours))
        axes = figure.add_axes((0.4, 0.085, 0.2, 0.02))
        figure.colorbar(scale, cax=axes, orientation="horizontal", label=label)
    return _saved(figure, path)


def _saved(figure: Figure, path: str | Path | None) -> Figure:
    if path is not None:
        with replacing(Path(path)) as temporary:
            figure.savefig(temporary, dpi=150, format="png")
    return figure
