"""Two processes train as one does that takes the same steps; what one decides, all do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import stage_tasks
import torch
import toy
from safetensors.torch import load_file

from brainit import engine

PATIENCE = 120


def finish(processes: list[toy.BaseProcess]) -> list[int | None]:
    for process in processes:
        process.join(PATIENCE)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return codes


def train_stage(name: str, folder: Path, accumulate: int) -> None:
    """Train the task of a stage, as every process of it does."""
    torch.set_num_threads(1)
    profile = stage_tasks.profile(accumulate=accumulate)
    task = stage_tasks.TASKS[name](folder / str(os.getpid()), profile)
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
