"""kill -9 at twenty random moments of a whole run, the same command each time: the same results."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

KILLS = 20
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


def demo(folder: Path) -> subprocess.Popen[bytes]:
    overrides = [part for assignment in SMALL for part in ("--set", assignment)]
    command = [sys.executable, "-c", "from brainit.cli import app; app()", "demo"]
    return subprocess.Popen(
        [*command, "--run", str(folder), *overrides],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )


def results(folder: Path) -> dict[str, str]:
    """Hashes of all weights, of what every epoch measured, and of the scores."""
    paths = [*folder.glob("*/*.safetensors"), *folder.glob("*.safetensors")]
    paths += [folder / "metrics.jsonl", folder / "scores.json", folder / "per_image.csv"]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


@pytest.mark.slow
def test_killed_at_twenty_moments_of_a_run_gives_the_same_weights_and_scores(
    tmp_path: Path,
) -> None:
    began = time.monotonic()
    assert demo(tmp_path / "whole").wait() == 0
    duration = time.monotonic() - began
    whole, rng, kills, runs = results(tmp_path / "whole"), random.Random(0), 0, 0
    assert len(whole) > 6
    while kills < KILLS:
        folder, runs, done = tmp_path / str(runs), runs + 1, False
        while not done:
            run = demo(folder)
            try:
                # Long enough for imports and a stage, on a machine of any speed.
                moment = duration * rng.uniform(0.04, 0.33)
                code = run.wait(moment if kills < KILLS else None)
                assert code == 0, "the command failed by itself"
                done = True
            except subprocess.TimeoutExpired:
                run.kill()
                run.wait()
                kills += 1
        assert results(folder) == whole
