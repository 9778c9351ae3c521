"""Two processes train as one does that takes the same steps; what one decides, all do."""

from __future__ import annotations

import json
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import stage_tasks
import torch
import toy
from process_targets import run_pipeline, take_steps, train_stage
from safetensors.torch import load_file

from brainit import pipeline
from brainit.profile import load_profile

PATIENCE = 120


def finish(processes: list[BaseProcess]) -> list[int | None]:
    for process in processes:
        process.join(PATIENCE)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return codes


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", stage_tasks.TASKS)
def test_two_processes_equal_one(tmp_path: Path, name: str) -> None:
    """Bit for bit: a step of two batches is a sum of two numbers, in whichever order."""
    alone = toy.child(train_stage, name, tmp_path / "one", 2)
    assert finish([alone]) == [0]
    assert finish(toy.children(2, train_stage, name, tmp_path / "two", 2)) == [0, 0]
    for file in ("last.safetensors", "best.safetensors"):
        one, two = (load_file(tmp_path / folder / file) for folder in ("one", "two"))
        assert one.keys() == two.keys()
        for key, value in one.items():
            assert torch.equal(value, two[key]), key


def ends(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted(folder.glob("end*"))]


def test_a_signal_to_one_process_stops_all_and_they_go_on(tmp_path: Path) -> None:
    two = {"accumulate": 2}
    alone = toy.child(take_steps, made(tmp_path / "one"), two, -1, "", 0)
    assert finish([alone]) == [0]
    folder = made(tmp_path / "two")
    assert finish(toy.children(2, take_steps, folder, two, 1, "stop", 6)) == [143, 143]
    assert all(end.startswith("Interrupted: toy: stopped by SIGTERM") for end in ends(folder))
    assert finish(toy.children(2, take_steps, folder, two, -1, "", 0)) == [0, 0]
    assert toy.traces(folder) == toy.traces(tmp_path / "one")


def test_when_one_process_dies_the_other_ends_too(tmp_path: Path) -> None:
    """No launcher is there to end it; then both go on from the last epoch."""
    two = {"accumulate": 2}
    began = time.monotonic()
    assert finish(toy.children(2, take_steps, tmp_path, two, 1, "kill", 13)) == [1, -signal.SIGKILL]
    assert time.monotonic() - began < 60  # 30 seconds after the death, on a busy machine
    assert finish(toy.children(2, take_steps, tmp_path, two, -1, "", 0)) == [0, 0]
    alone = toy.child(take_steps, made(tmp_path / "one"), two, -1, "", 0)
    assert finish([alone]) == [0]
    assert toy.traces(tmp_path) == toy.traces(tmp_path / "one")


def test_a_bad_loss_in_one_process_stops_both_and_names_its_batch(tmp_path: Path) -> None:
    assert finish(toy.children(2, take_steps, tmp_path, {"accumulate": 2}, 1, "nan", 13)) == [1, 1]
    line = "TrainingStopped: toy: loss is nan in epoch 3, step 2, from (2, 3, tensor("
    assert all(end.startswith(line) for end in ends(tmp_path))


def test_batches_that_cannot_be_dealt_are_one_clear_line(tmp_path: Path) -> None:
    assert finish(toy.children(2, take_steps, tmp_path, {"accumulate": 3}, -1, "", 0)) == [1, 1]
    assert all(
        "3 batches (accumulate) cannot be dealt evenly to 2" in end for end in ends(tmp_path)
    )


def test_stages_that_do_not_train_are_the_first_processs(tmp_path: Path) -> None:
    assert finish(toy.children(2, run_pipeline, tmp_path)) == [0, 0]
    done = {path.name for path in tmp_path.glob("*-[01]")}
    stages = pipeline.applicable(load_profile("tiny"))
    assert done == {f"{stage.name}-{rank}" for stage in stages for rank in range(1 + stage.trains)}
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert list(manifest["stages"]) == [stage.name for stage in stages]
