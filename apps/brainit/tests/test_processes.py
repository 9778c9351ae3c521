"""Two processes train as one does that takes the same steps; what one decides, all do."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import stage_tasks
import torch
import toy
from rich.console import Console
from safetensors.torch import load_file

from brainit import engine, pipeline, processes
from brainit.profile import load_profile
from brainit.run_folder import RunFolder
from brainit.stopping import Interrupted

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


def train_stage(name: str, folder: Path, accumulate: int) -> None:
    """Train the task of a stage, as every process of it does."""
    torch.set_num_threads(1)
    profile = stage_tasks.profile(accumulate=accumulate)
    task = stage_tasks.TASKS[name](folder / str(os.getpid()), profile, stage_tasks.Few())
    engine.train(task, stage_tasks.training(name, profile), folder, 1)


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


def take_steps(folder: Path, changes: dict[str, Any], victim: int, act: str, at: int) -> None:
    """Train a toy; in one process something happens at a step. Say how it ended."""

    def before(epoch: int, index: int) -> float | None:
        if processes.rank() == victim and epoch * 5 + index == at:
            if act == "nan":
                return math.nan
            os.kill(os.getpid(), signal.SIGKILL if act == "kill" else signal.SIGTERM)
        return None

    with (folder / f"end{processes.rank()}").open("w") as end:
        try:
            toy.train(folder, before, **changes)
        except (Interrupted, RuntimeError, ValueError) as error:
            end.write(f"{type(error).__name__}: {error}")
            end.flush()
            raise SystemExit(getattr(error, "exit_code", 1)) from None


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


def run_pipeline(folder: Path) -> None:
    """Run every stage with a stand-in that notes which process did it."""

    def load(name: str) -> ModuleType:
        stage = name.rpartition(".")[2]
        module: Any = ModuleType(name)

        def work(run: RunFolder, fingerprint: str) -> dict[str, Path]:
            time.sleep(0.05 * processes.rank())
            (run.path / f"{stage}-{processes.rank()}").touch()
            return {"file": run.path / f"{stage}-0"}

        module.run = work
        return module

    pipeline.import_module = load
    profile = load_profile("tiny")
    names = [stage.name for stage in pipeline.applicable(profile)]
    pipeline.run_stages(RunFolder(folder, profile), names, Console(quiet=True))


def test_stages_that_do_not_train_are_the_first_processs(tmp_path: Path) -> None:
    assert finish(toy.children(2, run_pipeline, tmp_path)) == [0, 0]
    done = {path.name for path in tmp_path.glob("*-[01]")}
    stages = pipeline.applicable(load_profile("tiny"))
    assert done == {f"{stage.name}-{rank}" for stage in stages for rank in range(1 + stage.trains)}
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert list(manifest["stages"]) == [stage.name for stage in stages]
