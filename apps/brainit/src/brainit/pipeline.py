"""The stages of a run, in order, with what each one reads."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from typing import Any

from rich.console import Console

from brainit import processes
from brainit.profile import Profile
from brainit.run_folder import RunFolder


@dataclass(frozen=True)
class Stage:
    """One stage: its module in `brainit.stages`, the stages and settings that it reads.

    `inherits` are the stages of the base that it reads in a run that adapts one to a new subject.
    Processes that were launched together share the work of a stage that `trains`; those that have
    a share of the images, of one that is `shared`. Of any other stage one process makes all while
    the others wait.
    """

    name: str
    summary: str
    needs: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    inherits: tuple[str, ...] = ()
    shared: bool = False
    trains: bool = False

    def fingerprint(self, run: RunFolder) -> str:
        """Hash of everything that the stage's result depends on."""
        has = {stage.name for stage in applicable(run.profile)}
        return run.fingerprint(
            [attrgetter(key)(run.profile) for key in ("seed", *self.settings)],
            tuple(need for need in self.needs if need in has),
            self.inherits,
        )


CHOICE = tuple(
    f"evaluation.{name}" for name in ("subjects", "images_per_subject", "split", "trials")
)
"""Settings that say which scans are reconstructed."""
STAGES = (
    Stage("simulate", "scenes, brains and scans in NSD's layout", settings=("simulation",)),
    Stage("prepare", "NSD tree to dataset.h5", ("simulate",), ("data",), ("simulate",)),
    Stage(
        "encoder",
        "image to every voxel of every subject",
        ("prepare",),
        ("encoder", "models"),
        ("encoder",),
        trains=True,
    ),
    Stage(
        "clusters",
        "functional clusters shared by all subjects",
        ("encoder",),
        ("clusters",),
        ("encoder", "clusters"),
    ),
    Stage("external", "predicted responses to external images", ("encoder",)),
    Stage(
        "low_level",
        "voxels to VGG features",
        ("clusters", "external"),
        ("low_level", "models"),
        ("low_level",),
        trains=True,
    ),
    Stage(
        "semantic",
        "voxels to CLIP patch tokens",
        ("clusters", "external"),
        ("semantic", "models"),
        ("semantic",),
        trains=True,
    ),
    Stage(
        "joint",
        "the semantic transformer and the diffusion model together",
        ("semantic",),
        ("stage2", "models"),
        ("joint",),
        trains=True,
    ),
    Stage(
        "trials",
        "single trials of what is reconstructed",
        ("simulate",),
        ("data", "evaluation.subjects"),
        ("simulate",),
    ),
    Stage(
        "baseline",
        "ridge regression, for comparison",
        ("prepare", "trials"),
        ("baseline", "models", *CHOICE),
    ),
    Stage(
        "coarse",
        "coarse images by Deep Image Prior",
        ("low_level", "trials"),
        ("coarse", *CHOICE),
        shared=True,
    ),
    Stage(
        "images",
        "unCLIP images and their fusion",
        ("semantic", "joint", "coarse", "baseline"),
        ("image", "evaluation.samples"),
        shared=True,
    ),
    Stage("evaluate", "scores with intervals and controls", ("images",), ("evaluation",)),
    Stage("report", "report.html", ("evaluate", "clusters"), ()),
)
TRAINING = ("encoder", "clusters", "external", "low_level", "semantic", "joint", "baseline")
RECONSTRUCTION = ("trials", "baseline", "coarse", "images")


def applicable(profile: Profile) -> list[Stage]:
    """Stages that a profile has: without a world of its own there is nothing to simulate."""
    adapts = profile.adaptation is not None and profile.adaptation.base
    has = {
        "simulate": profile.simulation is not None and not adapts,
        "joint": profile.stage2 is not None,
        "trials": profile.evaluation.trials,
    }
    return [stage for stage in STAGES if has.get(stage.name, True)]


def run_stages(run: RunFolder, names: Iterable[str], console: Console) -> None:
    """Run stages in their order, skipping those that are finished and unchanged.

    Args:
        run: The run folder.
        names: Names of the stages wanted; their inputs must have been made before.
        console: Where a line per stage is printed.

    Raises:
        RunError: Another command works in the folder, other than a share of the same work.
    """
    wanted, together = set(names), run.share.count == 1
    stages = [stage for stage in applicable(run.profile) if stage.name in wanted]
    with run.owned() if together and processes.is_first() else nullcontext():
        for stage in stages:
            if together:
                processes.wait()
                run.reload()
            alone = not together and not stage.shared
            with run.alone() if alone else nullcontext():
                _run_stage(run, stage, console)
        if together:
            processes.wait()
            run.reload()


def _run_stage(run: RunFolder, stage: Stage, console: Console) -> None:
    fingerprint = stage.fingerprint(run)
    current, together = run.is_current(stage.name, fingerprint), run.share.count == 1
    if processes.from_first(current) if together else current:
        console.print(f"[dim]{stage.name:<10} unchanged[/dim]")
        return
    if together and not stage.trains and not processes.is_first():
        return
    start = time.perf_counter()
    console.print(f"[bold]{stage.name:<10}[/bold] {stage.summary}")
    module: Any = import_module(f"brainit.stages.{stage.name}")
    outputs = module.run(run, fingerprint)
    seconds = time.perf_counter() - start
    if outputs is None:
        run.await_others(stage.name, fingerprint)
        console.print(f"{'':<10} share {run.share} done; the last of all puts them together")
        return
    if not together or processes.is_first():
        run.finish(stage.name, fingerprint, seconds, outputs)
    console.print(f"[dim]{'':<10} {seconds:.0f} s[/dim]")
