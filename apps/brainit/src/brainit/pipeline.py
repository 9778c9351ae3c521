"""The stages of a run, in order, with what each one reads."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from rich.console import Console

from brainit.profile import Profile
from brainit.run_folder import RunFolder


@dataclass(frozen=True)
class Stage:
    """One stage: its module in `brainit.stages`, the stages and settings that it reads.

    `inherits` are the stages of the base that it reads in a run that adapts one to a new subject.
    """

    name: str
    summary: str
    needs: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    inherits: tuple[str, ...] = ()

    def fingerprint(self, run: RunFolder) -> str:
        """Hash of everything that the stage's result depends on."""
        return run.fingerprint(
            [getattr(run.profile, key) for key in ("seed", *self.settings)],
            self.needs,
            self.inherits,
        )


STAGES = (
    Stage("simulate", "scenes, brains and scans in NSD's layout", settings=("simulation",)),
    Stage("prepare", "NSD tree to dataset.h5", ("simulate",), ("data",), ("simulate",)),
    Stage(
        "encoder",
        "image to every voxel of every subject",
        ("prepare",),
        ("encoder", "models"),
        ("encoder",),
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
    ),
    Stage(
        "semantic",
        "voxels to CLIP patch tokens",
        ("clusters", "external"),
        ("semantic", "models"),
        ("semantic",),
    ),
    Stage(
        "baseline",
        "ridge regression, for comparison",
        ("prepare",),
        ("baseline", "models", "evaluation"),
    ),
    Stage("coarse", "coarse images by Deep Image Prior", ("low_level",), ("coarse", "evaluation")),
    Stage(
        "images", "unCLIP images and their fusion", ("semantic", "coarse", "baseline"), ("image",)
    ),
    Stage("evaluate", "scores with intervals and controls", ("images",), ("evaluation",)),
    Stage("report", "report.html", ("evaluate", "clusters"), ()),
)
TRAINING = ("encoder", "clusters", "external", "low_level", "semantic", "baseline")
RECONSTRUCTION = ("coarse", "images")


def applicable(profile: Profile) -> list[Stage]:
    """Stages that a profile has: without a world of its own there is nothing to simulate."""
    adapts = profile.adaptation is not None and profile.adaptation.base
    simulates = profile.simulation is not None and not adapts
    return [stage for stage in STAGES if stage.name != "simulate" or simulates]


def run_stages(run: RunFolder, names: Iterable[str], console: Console) -> None:
    """Run stages in their order, skipping those that are finished and unchanged.

    Args:
        run: The run folder.
        names: Names of the stages wanted; their inputs must have been made before.
        console: Where a line per stage is printed.
    """
    wanted = set(names)
    for stage in applicable(run.profile):
        if stage.name not in wanted:
            continue
        fingerprint = stage.fingerprint(run)
        if run.is_current(stage.name, fingerprint):
            console.print(f"[dim]{stage.name:<10} unchanged[/dim]")
            continue
        start = time.perf_counter()
        console.print(f"[bold]{stage.name:<10}[/bold] {stage.summary}")
        module: Any = import_module(f"brainit.stages.{stage.name}")
        outputs = module.run(run, fingerprint)
        run.finish(stage.name, fingerprint, time.perf_counter() - start, outputs)
        console.print(f"[dim]{'':<10} {time.perf_counter() - start:.0f} s[/dim]")
