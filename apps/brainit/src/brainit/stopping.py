"""Signals that ask a training to end: it finishes its step, saves, and says that it was stopped."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
ECHO = 1.0
"""Seconds within which a second signal is the first one again: a launcher passes on to its
processes what the terminal has sent them already."""


class Interrupted(KeyboardInterrupt):
    """A training that was stopped by a signal, after it had saved where it stood.

    Args:
        task: What was trained.
        number: The signal.

    Attributes:
        exit_code: 128 + the signal's number, as shells have it: 130 for Ctrl-C, 143 for SIGTERM.
    """

    def __init__(self, task: str, number: int) -> None:
        name = signal.Signals(number).name
        super().__init__(f"{task}: stopped by {name} and saved; the same command goes on from here")
        self.exit_code = 128 + number


class Stop:
    """The first signal that came, if any.

    Attributes:
        signal: Its number, or 0.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._since = 0.0

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """Note a signal; the second one ends the process at once."""
        if not self.signal:
            self.signal, self._since = number, time.monotonic()
        elif time.monotonic() - self._since > ECHO:
            os._exit(128 + number)


@contextmanager
def stopping() -> Iterator[Stop]:
    """Collect signals instead of dying of them; the handlers of before are put back at the end.

    Threads other than the main one get no signals, so nothing is changed there. A signal that is
    ignored stays ignored, as `nohup` wants it for SIGHUP.
    """
    stop = Stop()
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in SIGNALS}
    heard = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, stop.receive)
    try:
        yield stop
    finally:
        for number in heard:
            signal.signal(number, before[number])
