"""`brainit-clusters plot`: one map of each subject as pictures and as files for other viewers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from safetensors import safe_open
from safetensors.numpy import load_file

from brainit_clusters._command import Folder, Force, check_output, clear_errors
from brainit_clusters.clusters import VoxelClusters
from brainit_clusters.data.dataset import BrainDataset
from brainit_clusters.data.record import SubjectData
from brainit_clusters.maps import (
    Format,
    Mesh,
    VoxelMap,
    atlas_map,
    cluster_map,
    map_name,
    mesh_of,
    noise_ceiling_map,
    number_map,
    write_map,
)

NOISE_CEILING = "noise-ceiling"
_PICTURES = ("png", "html")
_FILES: tuple[Format, ...] = ("gifti", "cifti", "nifti")
_LEGEND = 24


@clear_errors
def plot(
    what: Annotated[
        str,
        typer.Argument(
            help=f"Clusters file, safetensors of one float tensor (voxels) a subject, "
            f"'{NOISE_CEILING}', or an atlas of the dataset."
        ),
    ],
    dataset: Annotated[Path, typer.Option(help="dataset.h5 of the same voxels.")],
    output: Folder,
    subject: Annotated[
        list[str] | None, typer.Option(help="May come more than once; default: all.")
    ] = None,
    form: Annotated[
        str, typer.Option("--format", "-f", help="Of png, html, gifti, cifti, nifti; with commas.")
    ] = "png",
    name: Annotated[str, typer.Option(help="Of numbers; default: their file's.")] = "",
    task: Annotated[str, typer.Option(help="Put in file names; NSD's is nsdcore.")] = "",
    vertices: Annotated[
        int | None, typer.Option(help="Of a hemisphere, where the dataset does not say.")
    ] = None,
    force: Force = False,
) -> None:
    """Draw clusters or any values of voxels on the cortex, or write them for other viewers."""
    forms = form.split(",")
    if unknown := set(forms) - {*_PICTURES, *_FILES}:
        raise ValueError(f"--format {min(unknown)!r}, expected of {', '.join(_PICTURES + _FILES)}")
    with BrainDataset.open(dataset) as opened:
        for wanted in subject or opened.subjects:
            data = opened.subject(wanted)
            mesh = None if data.ijk is not None else mesh_of(opened.attributes, vertices)
            found = _find(what, name, data)
            label = task or ("nsdcore" if opened.attributes.get("source") == "NSD" else None)
            sources = [dataset, *([Path(what)] if Path(what).is_file() else [])]
            files = [kind for kind in _FILES if kind in forms]
            pictures = [kind for kind in _PICTURES if kind in forms]
            written = _draw(output, data, found, mesh, label, pictures, force)
            if files:
                written += write_map(output, data, found, mesh, files, label, sources, force)
            for path in written:
                typer.echo(path)


def _find(what: str, name: str, subject: SubjectData) -> VoxelMap:
    """The map that the first argument names."""
    path = Path(what)
    if path.is_file():
        with safe_open(path, framework="numpy") as file:
            clusters = "labels" in file.keys()  # noqa: SIM118 - not a mapping
        if clusters:
            return cluster_map(VoxelClusters.load(path), subject.name)
        tensors = load_file(path)
        if subject.name not in tensors:
            raise ValueError(f"{path}: no tensor {subject.name!r}, it has {sorted(tensors)}")
        return number_map(name or path.name.split(".")[0], tensors[subject.name])
    if what == NOISE_CEILING:
        return noise_ceiling_map(subject)
    if what in subject.roi:
        return atlas_map(subject, what)
    raise ValueError(
        f"{what}: no such file, nor a map of {subject.name}, expected a file, {NOISE_CEILING!r} "
        f"or one of {list(subject.roi)}"
    )


def _draw(
    out: Path,
    subject: SubjectData,
    found: VoxelMap,
    mesh: Mesh | None,
    task: str | None,
    kinds: list[str],
    force: bool,
) -> list[Path]:
    from brainit_clusters.plot import plot_clusters, plot_values, write_page
    from brainit_clusters.plot.cortex import need_extra

    if not kinds:
        return []
    need_extra()
    if mesh is None or mesh.space != "fsaverage":
        raise ValueError(f"{subject.name}: pictures are of fsaverage alone, expected other formats")
    names = {kind: map_name(subject, found, mesh, task) for kind in kinds}
    paths = {kind: out / replace(n, extension=f".{kind}").path for kind, n in names.items()}
    for path in paths.values():
        check_output(path, force)
    title = f"{found.title}, {subject.name}"
    values = found.values if found.labels is None else np.asarray(found.values) - 1
    if "png" in kinds:
        import matplotlib.pyplot as plt

        if found.labels is None:
            figure = plot_values(subject, values, paths["png"], title, label=found.units)
        else:
            legend = {label - 1: text for label, text in found.labels.items()}
            legend = legend if len(legend) <= _LEGEND else {}
            figure = plot_clusters(subject, values, paths["png"], title, legend)
        plt.close(figure)
    if "html" in kinds:
        write_page(paths["html"], subject, values, title, found.labels is not None)
    return list(paths.values())
