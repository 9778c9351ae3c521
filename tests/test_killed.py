"""kill -9 at twenty random moments of a whole run, the same command each time: the same results."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import random
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from killed_run import command
from safetensors.numpy import load_file

from brainit.pipeline import STAGES

KILLS = 20
CONTEXT = multiprocessing.get_context("forkserver")  # imports are done once, not at every start
CONTEXT.set_forkserver_preload(
    ["brainit.cli", *(f"brainit.stages.{stage.name}" for stage in STAGES)]
)


def demo(folder: Path) -> BaseProcess:
    process = CONTEXT.Process(target=command, args=(folder,))
    process.start()
    return process


def seconds(folder: Path) -> dict[str, float]:
    """What every finished stage took, in order."""
    path = folder / "manifest.json"
    stages = json.loads(path.read_text())["stages"] if path.is_file() else {}
    return {name: stage["seconds"] for name, stage in stages.items()}


def results(folder: Path) -> dict[str, str]:
    """Hashes of all weights, of what every epoch measured, and of the scores."""
    weights = [*folder.glob("*/*.safetensors"), *folder.glob("*.safetensors")]
    texts = [folder / name for name in ("metrics.jsonl", "scores.json", "per_image.csv")]
    found = {path.name: path.read_bytes() for path in texts}
    for path in weights:
        # The library writes the texts of a file's header in any order.
        for name, value in load_file(path).items():
            found[f"{path.relative_to(folder)}: {name}"] = value.tobytes()
    return {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}


def finish(folder: Path) -> None:
    run = demo(folder)
    run.join()
    assert run.exitcode == 0


def kill_in_stage(folder: Path, index: int, moment: float) -> None:
    """Start the run and kill it in a stage, unless that was finished before: then at once."""
    run = demo(folder)
    while len(seconds(folder)) < index and run.is_alive():
        time.sleep(0.02)
    run.join(moment)
    run.kill()
    run.join()


@pytest.mark.slow
def test_killed_at_twenty_moments_of_a_run_gives_the_same_weights_and_scores(
    tmp_path: Path,
) -> None:
    whole, killed, rng = tmp_path / "whole", tmp_path / "killed", random.Random(0)
    finish(whole)
    took = list(seconds(whole).values())
    for number in range(KILLS):  # every stage once, most of them twice
        index = number * len(took) // KILLS
        kill_in_stage(killed, index, rng.uniform(0, took[index]))
    finish(killed)
    assert len(results(whole)) > 50
    assert results(killed) == results(whole)
