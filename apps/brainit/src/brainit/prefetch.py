"""Batches are read and drawn by threads while the model works on those before."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Draw = TypeVar("Draw")
Batch = TypeVar("Batch")

MOST_WORKERS = 8


def workers() -> int:
    """Threads that prepare batches: this process's share of the cores but one, which trains."""
    cores = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(MOST_WORKERS, max(1, cores - 1))


def prefetched(
    draws: Iterable[Draw], load: Callable[[Draw], Batch], n_workers: int | None = None
) -> Generator[Batch, None, None]:
    """What `load` makes of each draw, in the order of the draws, prepared ahead by threads.

    Reading rows, drawing random numbers and copying let other threads run, so threads do; unlike
    processes they hand a batch over without a copy. Twice as many batches as threads wait at most.

    Args:
        draws: What the batches hold.
        load: Reads one batch, called by any thread: a pure function of its draw.
        n_workers: Threads; None for `workers()`, 0 loads each batch when it is asked for.

    Raises:
        Exception: What `load` raised, when the batch's turn has come.
    """
    n_workers = workers() if n_workers is None else n_workers
    if n_workers == 0:
        yield from map(load, draws)
        return
    # Threads of threads would only take cores from each other.
    pool = ThreadPoolExecutor(n_workers, "prefetch", torch.set_num_threads, (1,))
    waiting: deque[Future[Batch]] = deque()
    try:
        for draw in draws:
            waiting.append(pool.submit(load, draw))
            if len(waiting) > 2 * n_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
