"""A whole run at its smallest, shared by the tests of the whole: half a minute on one core."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from brainit.cli import app

SMALL = (
    "simulation.subjects=3",
    "simulation.own_images=40",
    "simulation.shared_images=10",
    "simulation.external_images=30",
    "data.subjects=[1, 2]",
    "encoder.training.epochs=2",
    "clusters.count=6",
    "low_level.training.epochs=2",
    "semantic.training.epochs=2",
    "coarse.steps=5",
    "coarse.batch_size=2",
    "image.steps=4",
    "image.fused_start_step=1",
    "image.batch_size=4",
    "adaptation.encoder_epochs=2",
    "adaptation.decoder_epochs=2",
    "evaluation.subjects=[1, 2]",
    "evaluation.images_per_subject=6",
    "evaluation.bootstrap=50",
)


def brainit(*arguments: object, fails: bool = False) -> str:
    """What a command says; it fails if it is to, and only then."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert (result.exit_code != 0) == fails, result.output + result.stderr
    return result.stderr if fails else result.stdout


def demo(folder: Path) -> str:
    """Everything, in a folder."""
    return brainit("demo", "--run", folder, *(part for one in SMALL for part in ("--set", one)))
