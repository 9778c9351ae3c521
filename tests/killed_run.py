"""The run that `test_killed` kills: in a file that other processes find by its name."""

from __future__ import annotations

from pathlib import Path

from brainit.cli import app

SMALL = (
    "simulation.subjects=2",
    "simulation.own_images=40",
    "simulation.shared_images=10",
    "simulation.external_images=30",
    "data.subjects=[1, 2]",
    "encoder.training.epochs=3",
    "clusters.count=6",
    "low_level.training.epochs=3",
    "semantic.training.epochs=3",
    "coarse.steps=5",
    "image.steps=4",
    "image.fused_start_step=1",
    "evaluation.subjects=[1, 2]",
    "evaluation.images_per_subject=4",
    "evaluation.bootstrap=50",
)


def command(folder: Path) -> None:
    """Run every stage, or what is left of them."""
    overrides = [part for assignment in SMALL for part in ("--set", assignment)]
    app(["demo", "--run", str(folder), *overrides])
