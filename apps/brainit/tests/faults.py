"""A disk that fails: the n-th thing that is done to files below a folder goes wrong.

    with Faults(folder) as faults:                                  # count what is done
        save()
    for step in range(len(faults.steps)):
        with Faults(folder, step, Error(errno.ENOSPC)), pytest.raises(OSError):
            save()

What Python itself does is seen: opening for writing, writing, fsync, rename, link and unlink. What
compiled libraries do to files of theirs is not.
"""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest import mock


class Crash(BaseException):
    """The process has died: nothing that runs while this is raised does anything to files."""


@dataclass(frozen=True)
class Error:
    """The step fails, and with `lasting` every later one too."""

    number: int
    lasting: bool = False


@dataclass(frozen=True)
class Death:
    """The process dies before the step, after it, or ("torn") when half of a write is done."""

    when: str


class Faults:
    """Counts the steps done to files below a folder and spoils one of them.

    Args:
        folder: Files elsewhere are left alone.
        step: Which step is spoilt, from 0; None for none.
        fault: How.

    Attributes:
        steps: What was done, such as "write last.safetensors".
    """

    def __init__(self, folder: Path, step: int | None = None, fault: Error | Death | None = None):
        self.folder, self.step, self.fault = folder, step, fault
        self.steps: list[str] = []
        self._broken: BaseException | None = None
        self._names: dict[int, str] = {}

    def __enter__(self) -> Self:
        opened = self._opening(io.open)
        self._patches = [
            mock.patch.object(builtins, "open", opened),
            mock.patch.object(io, "open", opened),
            mock.patch.object(os, "open", self._opening_low(os.open)),
            mock.patch.object(os, "fsync", self._synced(os.fsync)),
            *(
                mock.patch.object(os, name, self._spoilt(name, getattr(os, name)))
                for name in ("replace", "link", "unlink")
            ),
        ]
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for patch in self._patches:
            patch.stop()

    def do(self, name: str, path: Any, act: Callable[[], Any], half: Callable[[], Any]) -> Any:
        """Do a step, or what the fault makes of it."""
        if not str(path).startswith(str(self.folder)):
            return act()
        if self._broken is not None:
            raise self._broken
        self.steps.append(f"{name} {Path(os.fspath(path)).name}")
        if len(self.steps) - 1 != self.step or self.fault is None:
            return act()
        if isinstance(self.fault, Error):
            named = [] if name in ("write", "fsync") else [str(path)]  # as the system's own errors
            error = OSError(self.fault.number, os.strerror(self.fault.number), *named)
            if self.fault.lasting:
                self._broken = error
            raise error
        self._broken = Crash()
        if self.fault.when == "after":
            with suppress(OSError):
                act()
        if self.fault.when == "torn":
            half()
        raise self._broken

    def _spoilt(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **options: Any) -> Any:
            return self.do(name, path, lambda: real(path, *rest, **options), _nothing)

        return call

    def _synced(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def fsync(descriptor: int) -> None:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            self.do("fsync", path, lambda: real(descriptor), _nothing)

        return fsync

    def _opening_low(self, real: Callable[..., int]) -> Callable[..., int]:
        def opened(path: Any, flags: int, *rest: Any, **options: Any) -> int:
            def act() -> int:
                return real(path, flags, *rest, **options)

            return act() if flags & 3 == os.O_RDONLY else self.do("open", path, act, _nothing)

        return opened

    def _opening(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def opened(path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            def act() -> Any:
                return real(path, mode, *rest, **options)

            if isinstance(path, int) or not set(mode) & set("wax+"):
                return act()
            return _File(self, path, self.do("open", path, act, _nothing))

        return opened


class _File:
    """A file whose writes are steps."""

    def __init__(self, faults: Faults, path: Any, file: Any) -> None:
        self._faults, self._path, self._file = faults, path, file

    def write(self, data: Any) -> Any:
        def half() -> None:
            self._file.write(data[: len(data) // 2])

        return self._faults.do("write", self._path, lambda: self._file.write(data), half)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _nothing() -> None:
    """Half of what cannot be halved."""
