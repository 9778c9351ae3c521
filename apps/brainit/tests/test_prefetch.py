"""Batches prepared ahead come in order, not too far ahead, and fail in their turn.

So trainings that load ahead end in the same weights, and several processes load their own batches.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from brainit.engine import train
from brainit.gradients import ManyProcesses
from brainit.prefetch import prefetched
from brainit.profile import load_profile


def slow_first(draw: int) -> int:
    """The first ones take longest."""
    time.sleep(0.02 / (1 + draw))
    return 10 * draw


@pytest.mark.parametrize("n_workers", [0, 1, 3, None])
def test_order_is_that_of_the_draws(n_workers: int | None) -> None:
    found = list(prefetched(range(20), slow_first, n_workers))
    assert found == [10 * draw for draw in range(20)]


def test_batches_are_made_by_other_threads_before_they_are_asked_for() -> None:
    made: list[int] = []
    enough = threading.Event()

    def load(draw: int) -> str:
        made.append(draw)
        if draw == 2:
            enough.set()
        return threading.current_thread().name

    batches = prefetched(range(100), load, n_workers=1)
    assert next(batches).startswith("prefetch")
    # The third is made while the first is worked on.
    assert enough.wait(10)
    # One is asked for and two wait: no more are made, and memory stays as it is.
    time.sleep(0.05)
    assert made == [0, 1, 2]
    batches.close()


def test_an_error_comes_in_its_turn() -> None:
    def load(draw: int) -> int:
        if draw == 3:
            raise ValueError("third")
        return draw

    batches = prefetched(range(10), load, n_workers=2)
    assert [next(batches) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="third"):
        next(batches)
    with pytest.raises(StopIteration):
        next(batches)


@pytest.mark.parametrize("n_workers", [0, 2])
def test_no_thread_is_left_when_nobody_asks_any_more(n_workers: int) -> None:
    def endless() -> Iterator[int]:
        draw = 0
        while True:
            yield (draw := draw + 1)

    batches = prefetched(endless(), slow_first, n_workers)
    assert next(batches) == 10
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("prefetch")]


class Regression:
    """Rows of a table, which some tasks look up in `loss` and some ahead."""

    name = "regression"
    rows = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.module = nn.Linear(4, 1)

    def epoch(self, number: int) -> Sequence[Tensor]:
        return torch.randperm(40, generator=torch.Generator().manual_seed(number)).split(4)

    def loss(self, batch: Tensor) -> Tensor:
        return self.of(self.rows[batch])

    def of(self, x: Tensor) -> Tensor:
        return (self.module(x) - x.sum(1, keepdim=True)).square().mean()

    def validate(self) -> dict[str, float]:
        return {"score": -float(self.of(self.rows))}


class Ahead(Regression):
    def load(self, batch: Tensor) -> Tensor:
        time.sleep(0.003 * float(batch[0] % 2))  # so that threads overtake each other
        return self.rows[batch]

    def loss(self, batch: Tensor) -> Tensor:
        return self.of(batch)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_loaded_ahead_or_not_a_training_ends_in_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulate: int
) -> None:
    monkeypatch.setattr("brainit.prefetch.workers", lambda: 3)
    config = replace(load_profile("tiny").semantic.training, epochs=2, accumulate=accumulate)
    plain, ahead = Regression(), Ahead()
    for task in (plain, ahead):
        train(task, config, tmp_path / type(task).__name__, seed=0)
    assert torch.equal(plain.module.weight, ahead.module.weight)
    assert not torch.equal(plain.module.weight, Regression().module.weight)


@pytest.mark.parametrize("n_processes", [2, 3])
@pytest.mark.parametrize("n_batches", [1, 4, 5])
def test_processes_load_each_batch_of_a_step_once_but_the_last(
    monkeypatch: pytest.MonkeyPatch, n_processes: int, n_batches: int
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(n_processes))
    part, loaded = range(7, 7 + n_batches), []
    for rank in range(n_processes):
        monkeypatch.setenv("RANK", str(rank))
        share = ManyProcesses(nn.Linear(1, 1), None).share(part)  # type: ignore[arg-type]
        assert len(share) == -(-n_batches // n_processes)
        assert len(set(share)) == len(share)
        loaded += share
    assert set(loaded) == set(part)
    assert all(loaded.count(batch) == 1 for batch in part[:-1])
