"""`brainit-clusters nsd`: the Natural Scenes Dataset on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from brainit_clusters._command import Force, Output, check_output, clear_errors, numbers
from brainit_clusters.data.dataset import BrainDataset
from brainit_clusters.data.nsd import (
    NSDConfig,
    ScanConfig,
    prepare_imagery,
    prepare_nsd,
    prepare_synthetic,
    summarise_tree,
)
from brainit_clusters.nsd_download.command import download

app = typer.Typer(help="The Natural Scenes Dataset (NSD).", no_args_is_help=True)
app.command()(clear_errors(download))

Root = Annotated[Path, typer.Argument(help="Folder that holds nsddata and nsddata_betas.")]
DEFAULT = NSDConfig()


@app.command()
@clear_errors
def prepare(
    root: Root,
    output: Output,
    experiment: Annotated[
        str, typer.Option(help="nsd, synthetic, or imagery: vision or imagery trials of it.")
    ] = "nsd",
    subjects: Annotated[str, typer.Option(help="Such as 1,2,5; none: all with betas.")] = "",
    sessions: Annotated[
        str, typer.Option(help="40: all; 37: without the last three; or such as 1,2 or 1-10.")
    ] = "40",
    trials: Annotated[
        int | None, typer.Option(help="Only so many trials of each subject; none: all.")
    ] = None,
    draw: Annotated[str, typer.Option(help="Which trials: first or random.")] = DEFAULT.draw,
    space: Annotated[
        str, typer.Option(help="fsaverage, nativesurface, func1pt8mm or func1mm.")
    ] = DEFAULT.space,
    betas: Annotated[
        str, typer.Option(help="betas_assumehrf (b1), betas_fithrf (b2) or ..._GLMdenoise_RR (b3).")
    ] = DEFAULT.betas,
    mask: Annotated[
        str, typer.Option(help="Atlas, ATLAS:LABEL+LABEL, algonauts-2023, or a map's path.")
    ] = DEFAULT.mask,
    repeats: Annotated[str, typer.Option(help="average or trials.")] = DEFAULT.repeats,
    normalisation: Annotated[
        str, typer.Option(help="published or leak-free.")
    ] = DEFAULT.normalisation,
    test_set: Annotated[
        str, typer.Option(help="shared1000, shared982, shared907 or shared515.")
    ] = DEFAULT.test_set,
    image_size: Annotated[int, typer.Option(help="Side in pixels.")] = DEFAULT.image_size,
    validation_fraction: Annotated[
        float, typer.Option(help="Of a subject's own images.")
    ] = DEFAULT.validation_fraction,
    seed: Annotated[int, typer.Option(help="Chooses the validation images.")] = DEFAULT.seed,
    fit: Annotated[str, typer.Option(help="synthetic: crop or pad the wide images.")] = "",
    images: Annotated[
        Path | None, typer.Option(help="vision, imagery: .csv with condition and image.")
    ] = None,
    force: Force = False,
) -> None:
    """Turn an NSD tree into dataset.h5; interrupted, the same command goes on where it was."""
    check_output(output, force)
    scan: dict[str, Any] = {
        "subjects": numbers(subjects, "--subjects") if subjects else None,
        "image_size": image_size,
        "betas": betas,
        "space": space,
        "mask": mask,
        "repeats": repeats,
    }
    if experiment == "nsd":
        config = NSDConfig(
            **scan,
            sessions=sessions if sessions in ("37", "40") else numbers(sessions, "--sessions"),
            trials=trials,
            draw=cast(Literal["first"], draw),
            normalisation=cast(Literal["published"], normalisation),
            test_set=test_set,
            validation_fraction=validation_fraction,
            seed=seed,
        )
        prepare_nsd(root, output, config)
    elif experiment == "synthetic":
        prepare_synthetic(root, output, ScanConfig(**scan), cast(Literal["crop"], fit))
    elif experiment in ("vision", "imagery"):
        if images is None:
            raise ValueError("--images: expected a table of the image of each condition")
        task = cast(Literal["vision"], experiment)
        prepare_imagery(root, output, ScanConfig(**scan), task, images)
    else:
        raise ValueError(
            f"--experiment is {experiment!r}, expected nsd, synthetic, vision or imagery"
        )
    typer.echo(_dataset_text(_dataset(output)))


@app.command()
@clear_errors
def inspect(
    path: Annotated[Path, typer.Argument(help="An NSD tree, or a dataset.h5 made from one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Say what a tree or a dataset holds."""
    tree = path.is_dir()
    summary = summarise_tree(path) if tree else _dataset(path)
    text = _tree_text if tree else _dataset_text
    typer.echo(json.dumps(summary, indent=2) if as_json else text(summary))


def _dataset(path: Path) -> dict[str, Any]:
    with BrainDataset.open(path) as dataset:
        return {
            "path": str(path),
            "images": len(dataset.image_ids),
            "image_size": dataset.image_size,
            "coco_ids": dataset.coco_ids is not None,
            "attributes": dataset.attributes,
            "subjects": {name: dataset.describe(name) for name in dataset.subjects},
        }


def _dataset_text(summary: dict[str, Any]) -> str:
    known = summary["attributes"]
    named = [f"{key} {known[key]}" for key in _SETTINGS if known.get(key) is not None]
    lines = [
        f"{summary['path']}: {summary['images']} images of {summary['image_size']} px",
        f"  {', '.join(named)}; made from {len(known.get('input_hashes', {}))} files",
    ]
    for name, data in summary["subjects"].items():
        rows = ", ".join(f"{count} {split}" for split, count in data["rows"].items() if count)
        dropped = {key: n for key, n in data["attributes"].get("dropped_vertices", {}).items() if n}
        lines.append(f"  {name}: {data['n_voxels']} voxels, rows: {rows}; dropped: {dropped}")
    return "\n".join(lines)


_SETTINGS = ("source", "space", "betas", "mask", "normalisation", "repeats", "test_set")


def _tree_text(summary: dict[str, Any]) -> str:
    lines = [f"{summary['root']}: {summary['shared_images']} shared images, tables agree"]
    lines += [f"  no {name}" for name in ("images", "coco_ids") if not summary[name]]
    for name, subject in summary["subjects"].items():
        lines.append(f"  {name}: {subject['trials']} trials in {subject['sessions']} sessions")
        for space, found in subject["spaces"].items():
            betas = ", ".join(f"{key} ({count})" for key, count in found["betas"].items())
            lines.append(f"    {space}: {betas}; atlases: {', '.join(found['atlases'])}")
    return "\n".join(lines)
