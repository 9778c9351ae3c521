"""Batches prepared ahead come in order, not too far ahead, and fail in their turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from brainit.prefetch import prefetched


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
