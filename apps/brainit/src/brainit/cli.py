"""The `brainit` command: parses its arguments, builds a run folder and runs stages."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from brainit.doctor.command import doctor
from brainit.experiments.command import experiment
from brainit.processes import is_first

app = typer.Typer(
    help="Brain-IT: reconstruct the image a person saw from their fMRI.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
prepare_app = typer.Typer(help="Turn scans into dataset.h5.", no_args_is_help=True)
zoo_app = typer.Typer(help="The tiny models that ship with the app.", no_args_is_help=True)
app.add_typer(prepare_app, name="prepare")
app.add_typer(zoo_app, name="zoo")
console = Console(highlight=False, quiet=not is_first())

RunPath = Annotated[Path, typer.Option("--run", help="Run folder.")]
ProfileName = Annotated[str | None, typer.Option("--profile", help="Shipped profile or TOML file.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="Override, as KEY=VALUE.")]


def _clear_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn a user's mistakes and a full disk into one line and exit code 1."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except typer.Exit:
            raise
        except KeyboardInterrupt as stop:
            stopped = "stopped; the same command goes on from the last finished stage or checkpoint"
            _fail(str(stop) or stopped, getattr(stop, "exit_code", 130))
        except OSError as error:
            full = error.errno == errno.ENOSPC
            _fail(
                f"disk full while writing {error.filename or 'a file'}; free some space and repeat"
                if full
                else str(error)
            )
        except (ValueError, RuntimeError, KeyError, ImportError, NotImplementedError) as error:
            _fail(str(error.args[0]) if error.args else type(error).__name__)

    return wrapped


def _fail(message: str, code: int = 1) -> None:
    Console(stderr=True, highlight=False).print(
        f"[red]error:[/red] {escape(message)}", soft_wrap=True
    )
    raise typer.Exit(code)


def _stages(
    run: Path, profile: str | None, overrides: list[str] | None, names: tuple[str, ...]
) -> None:
    from brainit.pipeline import run_stages

    run_stages(_open(run, profile, overrides), names, console)


def _open(run: Path, profile: str | None, overrides: list[str] | None) -> Any:
    from brainit.profile import load_profile
    from brainit.run_folder import RunFolder

    config = run / "config.toml"
    if profile is None and overrides and config.is_file():
        profile = str(config)
    return RunFolder(run, load_profile(profile, overrides) if profile else None)


@app.command()
@_clear_errors
def simulate(
    run: RunPath,
    profile: ProfileName = "tiny",
    overrides: Overrides = None,
    routes: Annotated[
        str | None,
        typer.Option(help="Spaces of betas: fsaverage,nativesurface,func1pt8mm,func1mm."),
    ] = None,
) -> None:
    """Simulate scenes, brains and scans in NSD's layout."""
    if routes is not None:
        names = [name.strip() for name in routes.split(",")]
        overrides = [*(overrides or []), f"simulation.routes={json.dumps(names)}"]
    _stages(run, profile, overrides, ("simulate",))


@prepare_app.command("nsd")
@_clear_errors
def prepare_nsd(run: RunPath, profile: ProfileName = None, overrides: Overrides = None) -> None:
    """Read an NSD tree (the simulated one, or data.root of the profile) into dataset.h5."""
    _stages(run, profile, overrides, ("prepare",))


@app.command()
@_clear_errors
def train(
    run: RunPath,
    stage: Annotated[list[str] | None, typer.Option(help="Only these stages.")] = None,
    profile: ProfileName = None,
    overrides: Overrides = None,
) -> None:
    """Train encoder, clusters, both transformers and the baseline, skipping what is done."""
    from brainit.pipeline import TRAINING, run_stages

    unknown = sorted(set(stage or ()) - set(TRAINING))
    if unknown:
        raise ValueError(f"--stage {unknown[0]}: expected one of {', '.join(TRAINING)}")
    folder = _open(run, profile, overrides)
    if "joint" in (stage or ()) and folder.profile.stage2 is None:
        raise ValueError(f"--stage joint: the profile of {run} has no [stage2]")
    run_stages(folder, stage or TRAINING, console)


@app.command()
@_clear_errors
def adapt(
    run: RunPath,
    base: Annotated[Path, typer.Option(help="Run folder of the trained models.")],
    subject: Annotated[int, typer.Option(help="Number of the new subject in the same scans.")],
    minutes: Annotated[
        float, typer.Option(help="Minutes of its scans to learn from; 0: all.")
    ] = 0.0,
    trials: Annotated[int, typer.Option(help="Or trials; 0: all.")] = 0,
    draw: Annotated[str, typer.Option(help="Which: first or random.")] = "first",
    overrides: Overrides = None,
) -> None:
    """Learn a new subject's voxel embeddings, and nothing else, from few of its scans."""
    from brainit.adaptation import adapted_profile
    from brainit.pipeline import TRAINING, run_stages
    from brainit.profile import override
    from brainit.run_folder import RunFolder

    if run.resolve() == base.resolve():
        raise ValueError(f"--run {run}: is the base; name another folder for the adapted run")
    profile = adapted_profile(RunFolder(base), subject)
    how = (f"data.minutes={minutes}", f"data.trials={trials}", f"data.draw={draw}")
    folder = RunFolder(run, override(profile, [*how, *(overrides or [])]))
    run_stages(folder, ("prepare", *TRAINING), console)


@app.command()
@_clear_errors
def reconstruct(
    run: RunPath,
    subject: Annotated[list[int] | None, typer.Option(help="Only these subjects.")] = None,
    split: Annotated[str | None, typer.Option(help="test, val or train.")] = None,
    trials: Annotated[
        bool | None, typer.Option("--trials/--averages", help="Every repeat, or their average.")
    ] = None,
    samples: Annotated[int | None, typer.Option(help="Samples of the diffusion model.")] = None,
    shard: Annotated[
        str | None, typer.Option(help="Only this share of the images, such as 0/8.")
    ] = None,
    profile: ProfileName = None,
    overrides: Overrides = None,
) -> None:
    """Reconstruct images: coarse, semantic, fused and the baseline's.

    What is reconstructed stays in the run's [evaluation] until it is changed. Each image is a file
    as soon as it is made; a repeated command makes those that are missing. Several processes, each
    with its --shard or started by a launcher, share the work.
    """
    from brainit.pipeline import RECONSTRUCTION, run_stages
    from brainit.shares import Share

    share = Share.parse(shard) if shard else Share.launched()
    choice = {"subjects": subject, "split": split, "trials": trials, "samples": samples}
    chosen = [f"evaluation.{k}={json.dumps(v)}" for k, v in choice.items() if v is not None]
    folder = _open(run, profile, [*chosen, *(overrides or [])])
    folder.share = share
    run_stages(folder, RECONSTRUCTION, console)


@app.command()
@_clear_errors
def evaluate(run: RunPath, profile: ProfileName = None, overrides: Overrides = None) -> None:
    """Score the reconstructions, with intervals and controls, into scores.json."""
    from brainit.scores import print_scores

    _stages(run, profile, overrides, ("evaluate",))
    print_scores(_open(run, None, None), console)


@app.command()
@_clear_errors
def report(run: RunPath, profile: ProfileName = None, overrides: Overrides = None) -> None:
    """Write report.html."""
    _stages(run, profile, overrides, ("report",))


@app.command()
@_clear_errors
def demo(
    run: RunPath = Path("runs/demo"), profile: ProfileName = "tiny", overrides: Overrides = None
) -> None:
    """Do everything on simulated scans: from scenes to scores and a report."""
    from brainit.pipeline import applicable, run_stages
    from brainit.scores import print_scores

    folder = _open(run, profile, overrides)
    run_stages(folder, [stage.name for stage in applicable(folder.profile)], console)
    print_scores(folder, console)
    console.print(f"report: {folder.output('report', 'report').resolve()}", soft_wrap=True)


@zoo_app.command("train")
@_clear_errors
def zoo_train(
    name: Annotated[str, typer.Argument(help="clip, vgg, vae or unet.")],
    output: Annotated[Path, typer.Option(help="Folder for checkpoints and the model.")] = Path(
        "runs/zoo"
    ),
    seed: int = 0,
    steps: Annotated[int | None, typer.Option(help="Steps; default: the recipe's.")] = None,
) -> None:
    """Train one of the tiny models by its recipe."""
    from brainit.zoo.recipes import train as train_model

    console.print(f"written: {train_model(name, output, seed=seed, steps=steps)}")


for command in (doctor, experiment):
    app.command()(_clear_errors(command))
