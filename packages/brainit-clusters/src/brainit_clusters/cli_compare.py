"""`brainit-clusters compare`: the clusters beside simpler groupings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from brainit_clusters._command import clear_errors
from brainit_clusters.analysis import (
    GroupingScores,
    compare_groupings,
    jsonable,
    standard_groupings,
    voxel_coordinates,
)
from brainit_clusters.atlas_file import read_atlas
from brainit_clusters.clusters import VoxelClusters
from brainit_clusters.data.dataset import BrainDataset
from brainit_clusters.embeddings import load_embeddings
from brainit_clusters.meshes import load_vertices

_COLUMNS = ("homogeneity", "agreement", "stability", "effective_subjects")


@clear_errors
def compare(
    clusters: Annotated[Path, typer.Argument(help="Clusters that `fit` or `transfer` wrote.")],
    dataset: Annotated[Path, typer.Option(help="dataset.h5 of the same voxels.")],
    embeddings: Annotated[
        Path | None, typer.Option(help="What they were fitted on: adds k-means and stability.")
    ] = None,
    white: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Left and right white surface: adds clusters of places alone."),
    ] = None,
    atlas_file: Annotated[
        str | None,
        typer.Option(
            help="Adds an atlas: NIfTI, or ?h.NAME of .annot, .gii, .mgz or .npy for lh. and rh.; "
            "{subject} stands for the subject's name."
        ),
    ] = None,
    reference: Annotated[str, typer.Option(help="Atlas of the dataset to agree with.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Compare clusters with k-means, places, atlases and chance, each scored in the same way."""
    found = VoxelClusters.load(clusters)
    meshes = [load_vertices(path) for path in white] if white else None
    with BrainDataset.open(dataset) as opened:
        subjects = [opened.subject(name) for name in found.subjects]
    known = meshes is not None or all(subject.ijk is not None for subject in subjects)
    places = {s.name: voxel_coordinates(s, meshes) for s in subjects} if known else None
    if atlas_file:
        name = Path(atlas_file).name
        subjects = [
            replace(subject, roi={**subject.roi, name: read_atlas(atlas_file, subject)})
            for subject in subjects
        ]
    points = load_embeddings(embeddings) if embeddings else None
    if reference and any(reference not in subject.roi for subject in subjects):
        raise ValueError(f"{dataset}: no atlas {reference!r} of all subjects")
    truth = {s.name: s.roi[reference] for s in subjects} if reference else None
    rows = compare_groupings(standard_groupings(found, subjects, points, places), subjects, truth)
    if as_json:
        typer.echo(json.dumps(jsonable(rows), indent=2, allow_nan=False))
    else:
        typer.echo(_table(rows))


def _table(rows: list[GroupingScores]) -> str:
    width = max(len(row.name) for row in rows)
    lines = [" " * width + f"{'groups':>8}" + "".join(f"{name:>20}" for name in _COLUMNS)]
    for row in rows:
        values = [getattr(row, name) for name in _COLUMNS]
        cells = "".join(f"{'-' if v != v else f'{v:.3f}':>20}" for v in values)
        lines.append(f"{row.name:<{width}}{row.n_groups:>8}{cells}")
    return "\n".join(lines)
