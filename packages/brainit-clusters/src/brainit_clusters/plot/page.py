"""The inflated cortex to turn with the mouse, as one HTML file that needs no network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from brainit_clusters._files import replacing
from brainit_clusters.data.record import SubjectData
from brainit_clusters.plot.cortex import fsaverage5, label_values, limits_of, on_mesh

if TYPE_CHECKING:
    from matplotlib.colors import Colormap


def write_page(
    path: str | Path,
    subject: SubjectData,
    values: ArrayLike,
    title: str = "",
    categories: bool = False,
    colours: str | Colormap = "inferno",
    limits: tuple[float, float] | None = None,
) -> Path:
    """Write both hemispheres on fsaverage5 as one interactive page.

    Args:
        path: HTML file to write.
        subject: Says where its voxels lie.
        values: [n_voxels] numbers (NaN stays grey), or labels from 0 (below 0 stays grey).
        title: Above the picture.
        categories: The values are labels; each gets a colour of its own.
        colours: A matplotlib colour map or its name, for numbers.
        limits: Values of the first and of the last colour; None: those of the data.

    Raises:
        ValueError: if there is not one value a voxel, or the voxels are not on a mesh.
        ModuleNotFoundError: without the extra `[plot]`.
    """
    mesh = fsaverage5()
    if categories:
        values, colours, limits = label_values(values)
    low, high = limits or limits_of(values)
    from nilearn.plotting import view_surf
    from nilearn.surface import PolyMesh, SurfaceImage

    inflated = PolyMesh(left=mesh["infl_left"], right=mesh["infl_right"])
    left, right = on_mesh(subject, values)
    view = view_surf(
        surf_map=SurfaceImage(inflated, {"left": left, "right": right}),
        bg_map=SurfaceImage(inflated, {"left": mesh["sulc_left"], "right": mesh["sulc_right"]}),
        hemi="both",
        cmap=colours,
        vmin=low,
        vmax=high,
        symmetric_cmap=False,
        colorbar=not categories,
        title=title,
    )
    with replacing(Path(path)) as temporary:
        # nilearn's page would fetch its icon from the network.
        page = re.sub(r"<link\s+rel=\"icon\"[^>]*>", "", view.get_standalone())
        temporary.write_text(page, encoding="utf-8")
    return Path(path)
