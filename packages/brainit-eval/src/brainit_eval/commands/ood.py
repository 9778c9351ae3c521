"""`brainit-eval synthetic` and `imagery`: NSD-synthetic and NSD-imagery by their rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brainit_eval.commands._shared import clear_errors

if TYPE_CHECKING:
    from brainit_eval.ood.groups import GroupScore

Bound = Annotated[Path | None, typer.Option(help="Result folder of the same images.")]


@clear_errors
def synthetic(
    result: Annotated[Path, typer.Argument(help="Result folder: 284 images, or 52 scenes.")],
    classes: Annotated[Path, typer.Option(help="NSD's nsdsyntheticimageinformation.csv.")],
    floor: Bound = None,
    ceiling: Bound = None,
) -> None:
    """Scores on NSD-synthetic by class of image, between a floor and a ceiling if given."""
    from brainit_eval.ood.synthetic import read_classes, score_classes
    from brainit_eval.records.result import Result

    low, high = (Result.read(path) if path else None for path in (floor, ceiling))
    table = score_classes(Result.read(result), read_classes(classes), low, high)
    for name, scores in table.items():
        for metric, score in scores.items():
            share = f", {score.share:.2f} of the way" if score.share == score.share else ""
            typer.echo(f"{name}, {metric}: {_text(score.score)}{share}")


@clear_errors
def imagery(
    vision: Annotated[Path, typer.Argument(help="Result folder of what was seen.")],
    imagined: Annotated[Path, typer.Argument(help="Result folder of what was imagined.")],
) -> None:
    """Scores on NSD-imagery: sets A and B, vision and imagery apart, and what limits them."""
    from brainit_eval.ood.imagery import score_imagery
    from brainit_eval.records.result import Result

    scores = score_imagery(Result.read(vision), Result.read(imagined))
    for task, table in (("vision", scores.vision), ("imagery", scores.imagery)):
        for line in _lines(task, table):
            typer.echo(line)
    for note in scores.notes:
        typer.echo(f"note: {note}")


def _lines(task: str, table: Mapping[str, Mapping[str, GroupScore]]) -> Iterator[str]:
    for name, scores in table.items():
        for metric, score in scores.items():
            yield f"{task}, set {name}, {metric}: {_text(score)}"


def _text(score: GroupScore) -> str:
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}], {score.n_images} images"
