"""`brainit-diffusion plan`: what the stages need of disk, memory and time on a GPU."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from brainit_diffusion._command import clear_errors

if TYPE_CHECKING:
    from brainit_diffusion.planning import Stage


@clear_errors
def plan(
    profile: Annotated[Literal["nsd", "tiny"], typer.Option(help="Of the experiment.")] = "nsd",
    gpu: Annotated[
        str, typer.Option(help="h200, h100, a100, a100-40, l40s, rtx4090 or rtx3090.")
    ] = "h100",
    memory: Annotated[float, typer.Option(min=0, help="GiB, in place of the GPU's own.")] = 0,
    tflops: Annotated[float, typer.Option(min=0, help="Of its peak in bfloat16, likewise.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Print what each stage needs on a GPU, counted from the models of their real size."""
    from brainit_diffusion.planning import ASSUMPTIONS
    from brainit_diffusion.planning import plan as count_stages
    from brainit_diffusion.profiles import GIB, GPU, GPUS, PROFILES

    if gpu not in GPUS:
        raise ValueError(f"--gpu: expected one of {', '.join(GPUS)}, got {gpu}")
    known = GPUS[gpu]
    chosen = GPU(memory * GIB or known.memory, tflops * 1e12 or known.peak)
    stages = count_stages(PROFILES[profile](), chosen)
    if as_json:
        rows = [asdict(stage) | {"fits": stage.fits} for stage in stages]
        typer.echo(json.dumps({"gpu": chosen._asdict(), "assumes": ASSUMPTIONS, "stages": rows}))
        return
    typer.echo(f"{profile} on {chosen.memory / GIB:.0f} GiB, {chosen.peak / 1e12:.0f} TFLOP/s peak")
    typer.echo(
        f"{'':<30}{'weights':>9}{'output':>9}{'batch':>7}{'GPU memory':>12}{'fits':>6}{'time':>10}"
    )
    for stage in stages:
        typer.echo(_row(stage))
    typer.echo("Assumed:")
    for line in ASSUMPTIONS:
        typer.echo(f"- {line}")


def _row(stage: Stage) -> str:
    sizes = f"{_size(stage.weights):>9}{_size(stage.output):>9}{stage.batch:>7}"
    needs = f"{_size(stage.memory):>12}{'yes' if stage.fits else 'no':>6}{_time(stage.seconds):>10}"
    return f"{stage.name:<30}{sizes}{needs}" + (f"\n  {stage.advice}" if stage.advice else "")


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1000 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.3g} {unit}" if count < 1000 else f"{count:.0f} {unit}"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
