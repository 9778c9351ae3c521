"""Stops that wait for the end of a step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stops_held() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM as a list to look at between steps, which they then do not break.

    Python leaves signals to the main thread; in any other one the list stays empty.
    """
    stops: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield stops
        return
    before = {s: signal.signal(s, lambda number, _: stops.append(number)) for s in SIGNALS}
    try:
        yield stops
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
