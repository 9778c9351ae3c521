"""`brainit-eval controls`: what a method's pictures score without a brain, and signs of failure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainit_eval.commands._shared import Overwrite, Recons, Targets, Weights, clear_errors

if TYPE_CHECKING:
    from torch import Tensor

    from brainit_eval.controls.panel import ControlPanel
    from brainit_eval.pictures.sets import Pictures
    from brainit_eval.pictures.stream import FeatureFunction
    from brainit_eval.statistics.readings import Reading


@clear_errors
def controls(
    recons: Recons,
    targets: Targets,
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    coarse: Annotated[Path | None, typer.Option(help="Low-level branch, same ids.")] = None,
    recovered: Annotated[
        Path | None, typer.Option(help="What the generator makes of true features, same ids.")
    ] = None,
    train: Annotated[Path | None, typer.Option(help="The training images.")] = None,
    categories: Annotated[
        Path | None, typer.Option(help="CSV with the columns image_id and category.")
    ] = None,
    features: Annotated[
        str, typer.Option(help="What to identify by: thumbnail, or PROTOCOL:METRIC.")
    ] = "thumbnail",
    weights: Weights = None,
    subject: Annotated[str, typer.Option(help="Name of a subject without a folder.")] = "subject",
    bootstrap: Annotated[int, typer.Option(min=1, help="Resamples behind each interval.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of resamples and shuffles.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Run controls and failure detectors; of several samples the first is taken."""
    from brainit_eval.__about__ import __version__
    from brainit_eval.controls.panel import ControlPanel
    from brainit_eval.pictures.categories import read_categories
    from brainit_eval.pictures.open import open_pictures, open_truth
    from brainit_eval.pictures.sets import of_subject
    from brainit_eval.records.writing import check_free, write_text

    check_free(out, overwrite)
    function = _features(features, weights)
    sets = {name: samples[0] for name, samples in open_pictures(recons, subject).items()}
    others: dict[str, Any] = {
        name: None if path is None else open_truth(path)
        for name, path in (
            ("truth", targets),
            ("coarse", coarse),
            ("recovered", recovered),
            ("train", train),
        )
    }
    kinds = None if categories is None else read_categories(categories)
    record: dict[str, Any] = {
        "schema": 1,
        "brainit_eval": __version__,
        "features": features,
        "n_bootstrap": bootstrap,
        "seed": seed,
        "subjects": {},
    }
    for name, pictures in sets.items():
        own = {
            key: None if value is None else of_subject(value, name, key)
            for key, value in others.items()
        }
        panel = ControlPanel(
            _inputs(pictures, own, kinds), function, n_bootstrap=bootstrap, seed=seed
        )
        readings = panel.readings()
        record["subjects"][name] = _as_json(pictures.ids, panel, readings)
        _print(f"{name} · {len(pictures)} images · seed {seed}", readings)
    write_text(out, json.dumps(record, indent=1, allow_nan=False) + "\n")


class _Stored:
    """A set of pictures as something that can be sliced."""

    def __init__(self, pictures: Pictures) -> None:
        self.pictures = pictures
        self.shape = (len(pictures), 3, pictures.size, pictures.size)

    def __getitem__(self, index: Any, /) -> Tensor:
        return self.pictures.batch(range(*index.indices(len(self.pictures))))


def _inputs(
    pictures: Pictures, others: Mapping[str, Pictures | None], kinds: Mapping[str, str] | None
) -> Any:
    from brainit_eval.controls.panel import ControlInputs
    from brainit_eval.pictures.categories import categories_of
    from brainit_eval.pictures.sets import match_ids

    truth = others["truth"]
    assert truth is not None
    for paired in (pictures, others["coarse"], others["recovered"]):
        if paired is not None:
            match_ids(paired, truth)
    stored = {key: None if value is None else _Stored(value) for key, value in others.items()}
    train = others["train"]
    return ControlInputs(
        _Stored(pictures),
        image_ids=truth.ids,
        categories=None if kinds is None else categories_of(truth.ids, kinds),
        train_ids=None if train is None else train.ids,
        **stored,  # type: ignore[arg-type]
    )


def _features(name: str, weights: Path | None) -> FeatureFunction:
    """Thumbnails, or the network, layer and sizes behind one metric of a protocol."""
    from brainit_eval.network_features import network_features
    from brainit_eval.networks import WeightStore
    from brainit_eval.pictures.stream import thumbnails
    from brainit_eval.protocol import Protocol

    if name == "thumbnail":
        return thumbnails
    protocol, colon, metric = name.rpartition(":")
    if not colon:
        raise ValueError(f"--features {name!a}: expected thumbnail, or PROTOCOL:METRIC")
    return network_features(Protocol.load(protocol), metric, WeightStore(weights))


def _as_json(ids: tuple[str, ...], panel: ControlPanel, readings: list[Reading]) -> dict[str, Any]:
    columns = {**panel.scores, **{r.name: r.per_image for r in readings if r.per_image is not None}}
    return {
        "n_images": len(ids),
        "readings": [reading.as_dict() for reading in readings],
        "per_image": {
            "image_id": list(ids),
            **{
                name: [value if math.isfinite(value) else None for value in column.tolist()]
                for name, column in columns.items()
            },
        },
    }


def _print(title: str, readings: list[Reading]) -> None:
    typer.echo(title)
    width = max(len(reading.title) for reading in readings)
    for reading in readings:
        colour = "green" if reading.green else "red"
        ends = f"[{reading.low:.3f}, {reading.high:.3f}]" if math.isfinite(reading.low) else ""
        numbers = f"{reading.value:>8.3f}  {ends:<18}"
        word = typer.style(colour.ljust(5), fg=colour)
        typer.echo(f"  {word}  {reading.title:<{width}}  {numbers}  {reading.rule}")
