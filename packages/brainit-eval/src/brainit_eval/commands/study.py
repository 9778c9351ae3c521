"""`brainit-eval study`: make a human study, and analyse its answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brainit_eval.commands._shared import Overwrite, Targets, clear_errors

app = typer.Typer(
    help="A human study: two-alternative trials as static pages, and what the answers say.",
    no_args_is_help=True,
)


@app.command()
@clear_errors
def make(
    targets: Targets,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    method: Annotated[
        list[str],
        typer.Option(help="NAME=PATH of reconstructions; once a method. Sample 0 is shown."),
    ],
    mode: Annotated[
        str, typer.Option(help="random: own image or another? methods: which of two methods?")
    ] = "random",
    pages: Annotated[int, typer.Option(min=1, help="Pages; each for one or more raters.")] = 1,
    trials: Annotated[int, typer.Option(min=1, help="Trials a page.")] = 80,
    catch: Annotated[int, typer.Option(min=0, help="Catch trials a page, beside those.")] = 8,
    size: Annotated[int, typer.Option(min=64, help="Side of the pictures in pixels.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
) -> None:
    """Write pages for raters (OUT/pages) and the key (OUT/key.json), which they must not get."""
    from brainit_eval.human.page import StudyImages, write_study
    from brainit_eval.human.trials import check_mode, plan_trials
    from brainit_eval.pictures.open import open_pictures, open_truth
    from brainit_eval.pictures.sets import Pictures
    from brainit_eval.records.writing import check_place

    check_place(out / "key.json")
    shown = open_truth(targets)
    if not isinstance(shown, Pictures):
        raise ValueError(f"{targets}: expected one set of true images for all subjects")
    paths = dict(_named(text) for text in method)
    if len(paths) < len(method):
        raise ValueError("--method: expected each name once")
    methods = {
        name: {subject: samples[0] for subject, samples in open_pictures(path).items()}
        for name, path in paths.items()
    }
    images = StudyImages(shown, methods, size)
    planned = plan_trials(
        check_mode(mode),
        list(methods),
        images.subjects,
        images.truth.ids,
        pages=pages,
        trials=trials,
        catch=catch,
        seed=seed,
    )
    settings = {"mode": mode, "pages": pages, "trials": trials, "catch": catch, "seed": seed}
    for path in write_study(out, planned, images, settings):
        typer.echo(f"{path}: {trials + catch} trials, {path.stat().st_size / 1e6:.1f} MB")
    typer.echo(f"{out / 'key.json'}: the key; keep it from the raters")


@app.command()
@clear_errors
def analyse(
    answers: Annotated[list[Path], typer.Argument(help="Files that the raters saved.")],
    key: Annotated[Path, typer.Option(help="The study's key.json.")],
    out: Annotated[Path | None, typer.Option(help="Write the analysis as JSON too.")] = None,
    bootstrap: Annotated[int, typer.Option(min=1, help="Draws of raters and images.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Say how often each choice was made, with intervals, and who was left out."""
    from brainit_eval.human.analysis import RULE
    from brainit_eval.human.analysis import analyse as run
    from brainit_eval.records.writing import check_free

    if out is not None:
        check_free(out, overwrite)
    result = run(answers, key, bootstrap, seed)
    if out is not None:
        result.write(out)
    kept = sum(rater.kept for rater in result.raters)
    typer.echo(f"{kept} of {len(result.raters)} raters count: {RULE}.")
    for rater in result.raters:
        if not rater.kept:
            typer.echo(f"  left out: {rater.name}, {rater.catch_right} of {rater.catch_shown}")
    typer.echo(f'{100 * result.left_share:.1f} % of answers were "left".')
    for p in result.preferences:
        typer.echo(
            f"  {p.comparison}, {p.subject or 'all subjects'}: {100 * p.share:.1f} % "
            f"[{100 * p.low:.1f}, {100 * p.high:.1f}], {p.n_answers} answers, "
            f"{p.n_raters} raters, {p.n_images} images"
        )


def _named(text: str) -> tuple[str, Path]:
    from brainit_eval.records.labels import check_title

    name, equals, path = text.partition("=")
    if not equals or not path:
        raise ValueError(f"--method {text!a}: expected NAME=PATH")
    return check_title(name, "--method"), Path(path)
