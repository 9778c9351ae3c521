"""A training that is stopped, killed or interrupted anywhere ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import toy

from brainit.stopping import SIGNALS, Interrupted

STEPS = 25


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("unbroken")
    toy.train(folder)
    return toy.traces(folder)


def at_step(step: int, act: Callable[[], None]) -> Callable[[int, int], None]:
    return lambda epoch, index: act() if epoch * 5 + index == step else None


@pytest.mark.parametrize("step", range(0, STEPS, 2))
def test_stopped_after_any_step_and_resumed_equals_unbroken(
    tmp_path: Path, step: int, unbroken: dict[str, str]
) -> None:
    number = SIGNALS[step % len(SIGNALS)]
    before = {number: signal.getsignal(number) for number in SIGNALS}
    with pytest.raises(Interrupted, match="toy: stopped by SIG") as stop:
        toy.train(tmp_path, at_step(step, lambda: os.kill(os.getpid(), number)))
    assert stop.value.exit_code == 128 + number
    assert {number: signal.getsignal(number) for number in SIGNALS} == before
    done: list[int] = []
    toy.train(tmp_path, lambda epoch, index: done.append(epoch * 5 + index))
    assert done == list(range(step + 1, STEPS))
    assert toy.traces(tmp_path) == unbroken


def test_killed_at_twenty_moments_equals_unbroken(tmp_path: Path, unbroken: dict[str, str]) -> None:
    """With a checkpoint at every step, so that many a kill falls into one being written."""
    rng, kills, trainings = random.Random(0), 0, 0
    while kills < 20:
        folder, trainings, done = tmp_path / str(trainings), trainings + 1, False
        while not done:
            ready = toy.event()
            child = toy.child(toy.slow_child, folder, ready)
            if toy.started(child, ready):
                child.join(rng.uniform(0, 0.4) if kills < 20 else 60)
            done = child.exitcode == 0
            kills += not done
            child.kill()
            child.join()
        assert toy.traces(folder) == unbroken
        assert not list((folder / "toy").glob(".*")), "half-written files are left"
