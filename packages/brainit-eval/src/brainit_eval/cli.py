"""The `brainit-eval` command: score reconstructions under a protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brainit_eval.commands._shared import (
    Overwrite,
    Recons,
    Targets,
    Weights,
    clear_errors,
    echo_table,
)
from brainit_eval.commands.compare import compare
from brainit_eval.commands.controls import controls
from brainit_eval.commands.leaderboard import leaderboard
from brainit_eval.commands.ood import imagery, synthetic
from brainit_eval.commands.report import report
from brainit_eval.commands.study import app as study_app

app = typer.Typer(
    help="Score images reconstructed from brain activity, by any method, and compare honestly.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(compare)
app.command()(controls)
app.command()(leaderboard)
app.command()(synthetic)
app.command()(imagery)
app.command()(report)
app.add_typer(study_app, name="study")


@app.command()
@clear_errors
def score(
    recons: Recons,
    targets: Targets,
    protocol: Annotated[str, typer.Option(help="Name (see `protocols`) or a TOML file.")],
    out: Annotated[Path, typer.Option(help="Result folder to write.")],
    method: Annotated[str, typer.Option(help="Name for tables; else that of --recons.")] = "",
    subject: Annotated[str, typer.Option(help="Name of a subject without a folder.")] = "subject",
    metrics: Annotated[
        str, typer.Option(help="Only these, with commas; the protocol's hash then differs.")
    ] = "",
    test_set: Annotated[
        str, typer.Option(help="Its name, where the protocol leaves it open.")
    ] = "",
    weights: Weights = None,
    cache: Annotated[Path | None, typer.Option(help="Folder for features of true images.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 32,
    bootstrap: Annotated[int, typer.Option(min=1, help="Resamples behind each interval.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the resamples.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Score reconstructions against the images seen, paired by image id."""
    from brainit_eval.benchmark import Benchmark
    from brainit_eval.feature_cache import FeatureCache
    from brainit_eval.networks import WeightStore
    from brainit_eval.pictures.open import open_pictures, open_truth
    from brainit_eval.protocol import Protocol
    from brainit_eval.records.labels import check_title
    from brainit_eval.records.result import check_target

    method = check_title(method or recons.stem, "--method")
    check_target(out, overwrite)
    chosen = Protocol.load(protocol)
    if metrics:
        chosen = chosen.only(tuple(metrics.split(",")))
    benchmark = Benchmark(
        chosen,
        open_truth(targets),
        store=WeightStore(weights),
        cache=FeatureCache(cache),
        test_set=test_set,
        device=_device(device),
        batch_size=batch_size,
        n_bootstrap=bootstrap,
        seed=seed,
        say=lambda line: typer.echo(line, err=True),
    )
    result = benchmark.score(open_pictures(recons, subject), method)
    result.write(out, overwrite=overwrite)
    test = f"{result.test_set.name}, {result.test_set.n_images} images"
    typer.echo(f"{method} · {chosen.name} {chosen.hash[:16]} · {test}")
    rows = [
        (name, f"{s.value:.4f}", f"[{s.low:.4f}, {s.high:.4f}]", _arrow(s.higher_is_better))
        for name, s in result.metrics.items()
    ]
    echo_table(rows)
    for line in result.warnings:
        typer.echo(f"warning: {line}", err=True)


@app.command()
@clear_errors
def protocols(
    name: Annotated[str, typer.Argument(help="One of them, or a TOML file, in full.")] = "",
) -> None:
    """List the protocols, or show one."""
    from brainit_eval.protocol import Protocol, frozen_protocols

    if not name:
        found = [Protocol.load(frozen) for frozen in frozen_protocols()]
        echo_table([(one.name, one.hash[:16], one.title) for one in found])
        return
    one = Protocol.load(name)
    images = one.n_images or "any number of"
    typer.echo(f"{one.name} {one.hash}\n{one.title}\n{one.about}")
    typer.echo(f"test set: {one.test_set or 'any'}, {images} images")
    typer.echo(f"true images: {f'{one.truth_size} px' if one.truth_size else 'any size'}")
    typer.echo(f"first step: {one.front or 'none'}")
    echo_table(
        [
            (metric, spec.score, spec.network, spec.weights, spec.layer, str(spec.resize or ""))
            for metric, spec in one.metrics.items()
        ]
    )


@app.command()
@clear_errors
def selftest(weights: Weights = None) -> None:
    """Check the machinery without a network connection, and say which weights are here."""
    from brainit_eval.selftest import checks, found_weights

    typer.echo("Weights on this machine:")
    echo_table(found_weights(weights))
    typer.echo("Checks with random weights:")
    failed = False
    for name, outcome in checks():
        failed |= outcome.startswith("FAILED")
        typer.echo(f"  {name}: {outcome}")
    if failed:
        raise typer.Exit(1)


def _device(name: str) -> str:
    import torch

    if name not in ("cpu", "cuda") or (name == "cuda" and not torch.cuda.is_available()):
        raise ValueError(f"--device {name!a}: expected cpu, or cuda where there is one")
    return name


def _arrow(higher_is_better: bool) -> str:
    return "higher is better" if higher_is_better else "lower is better"
