"""Two processes that keep a part of the weights each train as one does that keeps all."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import stage_tasks
import torch
import toy
from process_targets import look_at_shards, sharded, take_steps, train_stage
from safetensors.torch import load_file
from test_processes import ends, finish, made

from brainit import processes


def assert_same(one: Path, two: Path) -> None:
    for file in ("last.safetensors", "best.safetensors"):
        # Strictly the same names; numbers up to the rounding of a gradient's norm.
        torch.testing.assert_close(load_file(one / file), load_file(two / file))


@pytest.mark.parametrize("name", stage_tasks.TASKS)
def test_two_sharded_processes_equal_one(tmp_path: Path, name: str) -> None:
    """Batches of a step are of different subjects, whose voxels only some processes see."""
    alone = toy.child(train_stage, name, tmp_path / "one", 2)
    assert finish([alone]) == [0]
    two = toy.children(2, sharded, train_stage, name, tmp_path / "two", 2)
    assert finish(two) == [0, 0]
    assert_same(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(("begun", "at"), [(1, 9), (2, 6)])
def test_it_goes_on_in_another_number_of_processes(tmp_path: Path, begun: int, at: int) -> None:
    """After the ninth batch an epoch is left to be validated, before any weights are trained."""
    two = {"accumulate": 2, "clip_norm": 0.5}
    assert finish([toy.child(take_steps, made(tmp_path / "alone"), two, -1, "", 0)]) == [0]
    folder = made(tmp_path / "both")
    for n, victim in ((begun, begun - 1), (3 - begun, -1)):
        arguments = (take_steps, folder, two, victim, "stop", at)
        group = [toy.child(*arguments)] if n == 1 else toy.children(2, sharded, *arguments)
        assert finish(group) == [143 if victim >= 0 else 0] * n
    assert_same(tmp_path / "alone" / "toy", folder / "toy")


def test_moments_are_parts_and_weights_whole_again(tmp_path: Path) -> None:
    """An axis of 8 is halved, one of 1 is the first's; what is unused is not even decayed."""
    assert finish(toy.children(2, sharded, look_at_shards, tmp_path)) == [0, 0]
    first, second = (json.loads((tmp_path / f"seen{rank}").read_text()) for rank in (0, 1))
    idle = None
    assert first["moments"] == [idle, [4, 4], [4], [1, 8], [1]]
    assert second["moments"] == [idle, [4, 4], [4], [0, 8], [0]]
    assert first["weights"] == second["weights"]
    assert first["weights"]["idle"] == [1.0, 1.0, 1.0]
    assert all(first["plain"] + second["plain"])
    best = load_file(tmp_path / "best.safetensors")
    assert {f"model.{name}": value for name, value in first["weights"].items()} == {
        name: value.tolist() for name, value in best.items()
    }


def test_a_bad_loss_in_one_sharded_process_stops_both(tmp_path: Path) -> None:
    bad = toy.children(2, sharded, take_steps, tmp_path, {"accumulate": 2}, 1, "nan", 13)
    assert finish(bad) == [1, 1]
    line = "TrainingStopped: toy: loss is nan in epoch 3, step 2, from (2, 3, tensor("
    assert all(end.startswith(line) for end in ends(tmp_path))


def test_when_one_sharded_process_dies_the_other_says_so(tmp_path: Path) -> None:
    """Then one process goes on from the last epoch."""
    two = {"accumulate": 2}
    dead = toy.children(2, sharded, take_steps, tmp_path, two, 1, "kill", 13)
    assert finish(dead) == [1, -signal.SIGKILL]
    assert (tmp_path / "end0").read_text().startswith("LostProcess: process 0 of 2: another one")
    assert finish([toy.child(take_steps, tmp_path, two, -1, "", 0)]) == [0]
    assert finish([toy.child(take_steps, made(tmp_path / "alone"), two, -1, "", 0)]) == [0]
    assert_same(tmp_path / "alone" / "toy", tmp_path / "toy")


def test_what_fails_in_an_exchange_is_a_lost_process_unless_memory_is() -> None:
    with pytest.raises(processes.LostProcess, match="another one has ended"), processes.exchange():
        raise RuntimeError("Connection closed by peer")
    with pytest.raises(torch.OutOfMemoryError, match="full"), processes.exchange():
        raise torch.OutOfMemoryError("full")
