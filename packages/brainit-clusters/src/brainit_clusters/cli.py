"""The `brainit-clusters` command: encode, predict, fit clusters, transfer and show them."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from brainit_clusters._command import Force, Output, check_output, clear_errors
from brainit_clusters.cli_compare import compare
from brainit_clusters.cli_encoder import encode, predict
from brainit_clusters.cli_maps import plot
from brainit_clusters.cli_nsd import app as nsd_app
from brainit_clusters.clusters import VoxelClusters, fit_clusters, hash_of, unit
from brainit_clusters.data.dataset import BrainDataset
from brainit_clusters.embeddings import load_embeddings

app = typer.Typer(
    help="Functional clusters of voxels that all subjects share.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(nsd_app, name="nsd")
app.command()(encode)


@app.command()
@clear_errors
def fit(
    embeddings: Annotated[
        Path, typer.Argument(help="Safetensors: a tensor (voxels x E) a subject.")
    ],
    output: Output,
    n_clusters: Annotated[int, typer.Option("--n-clusters", "-k", min=1, help="K.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="Of the start.")] = 0,
    force: Force = False,
) -> None:
    """Cluster the voxels of all subjects together by their embeddings."""
    check_output(output, force)
    clusters = fit_clusters(load_embeddings(embeddings), n_clusters, seed)
    clusters.save(output)
    typer.echo(f"{output}: {len(clusters.labels)} voxels in {n_clusters} clusters")


@app.command()
@clear_errors
def transfer(
    clusters: Annotated[Path, typer.Argument(help="Clusters that `fit` wrote.")],
    embeddings: Annotated[Path, typer.Argument(help="The embeddings that they were fitted on.")],
    new: Annotated[Path, typer.Argument(help="Embeddings of new subjects, same width.")],
    output: Output,
    force: Force = False,
) -> None:
    """Give each voxel of new subjects the cluster of its nearest fitted voxel.

    The output is a file of clusters of the new subjects, with `nearest`: for each voxel its
    nearest fitted voxel, counted over all fitted subjects.
    """
    check_output(output, force)
    fitted, reference, fresh = (
        VoxelClusters.load(clusters),
        load_embeddings(embeddings),
        load_embeddings(new),
    )
    if lacking := set(fitted.subjects) - set(reference):
        raise ValueError(f"{embeddings}: no subject {min(lacking)!r}, which {clusters} has")
    old_width, new_width = (next(iter(e.values())).shape[1] for e in (reference, fresh))
    if old_width != new_width:
        raise ValueError(f"{new}: {new_width} values a voxel, expected {old_width}")
    # Each assignment checks the reference's hash; all new subjects at once need one check.
    points = np.concatenate(list(fresh.values()))
    labels, nearest = fitted.assign(points, reference)
    moved = VoxelClusters(
        labels=labels,
        subject_offsets=np.cumsum([0, *map(len, fresh.values())]).astype(np.int64),
        subjects=tuple(fresh),
        centres=fitted.centres,
        embedding_hash=hash_of(unit(points)),
    )
    moved.save(output, {"nearest": nearest})
    typer.echo(f"{output}: {len(labels)} voxels in {len(np.unique(labels))} clusters")


@app.command()
@clear_errors
def describe(
    clusters: Annotated[Path, typer.Argument(help="Clusters that `fit` or `transfer` wrote.")],
    dataset: Annotated[
        Path | None, typer.Option(help="dataset.h5 of the same voxels: adds regions and responses.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Say what the clusters are made of."""
    from brainit_clusters.analysis import jsonable, summarise

    found = VoxelClusters.load(clusters)
    with BrainDataset.open(dataset) if dataset else nullcontext() as opened:
        summary = jsonable(summarise(found, opened))
    typer.echo(json.dumps(summary, indent=2, allow_nan=False) if as_json else _text(summary))


for command in (compare, plot, predict):
    app.command()(command)


def _text(summary: dict[str, Any]) -> str:
    size, shared = np.array(summary["size"]), np.array(summary["subjects_per_cluster"])
    n_subjects = len(summary["subjects"])
    voxels = ", ".join(f"{name} {count}" for name, count in summary["subjects"].items())
    lines = [
        f"clusters     {summary['n_clusters']}, {np.count_nonzero(size == 0)} of them empty",
        f"voxels       {size.sum()} ({voxels})",
        f"size         {size.min()} to {size.max()}, median {np.median(size):g}",
        f"shared       {np.count_nonzero(shared == n_subjects)} have voxels of all "
        f"{n_subjects} subjects",
    ]
    if "left_share" in summary:
        left = [share for share in summary["left_share"] if share is not None]
        if left:
            lines.append(f"left half    {min(left):.0%} to {max(left):.0%} of a cluster's voxels")
    if summary.get("homogeneity") is not None:
        lines.append(
            f"homogeneity  {summary['homogeneity']:.3f} (correlation of a voxel with its cluster)"
        )
    for atlas, found in summary.get("atlases", {}).items():
        lines.append(
            f"{atlas}: adjusted Rand {found['adjusted_rand']:.3f}, adjusted mutual information "
            f"{found['adjusted_mutual_information']:.3f}, purity {found['purity']:.3f}"
        )
        lines += [
            f"  cluster {pair['cluster']}: {pair['region']}, {pair['voxels']} voxels "
            f"({pair['expected']:.1f} by chance), adjusted p {pair['adjusted_p']:.2g}"
            for pair in found["enriched"][:10]
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    app()
