"""A training that is stopped, killed or interrupted anywhere ends as if nothing had happened."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest
import toy
from faults import Error, Faults
from typer.testing import CliRunner

from brainit.checkpoint import CheckpointError
from brainit.cli import app
from brainit.run_folder import RunFolder
from brainit.stopping import ECHO, SIGNALS, Interrupted, stopping

STEPS = 25


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("unbroken")
    toy.train(folder)
    return toy.traces(folder)


def at_step(step: int, act: Callable[[], object]) -> toy.Before:
    def before(epoch: int, index: int) -> None:
        if epoch * 5 + index == step:
            act()

    return before


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


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    """In the middle of a step that would take minutes; the first one waits for it."""
    ready = toy.event()
    child = toy.child(toy.stuck_child, tmp_path, ready)
    assert toy.started(child, ready)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGTERM)
    child.join(0.2)
    os.kill(child.pid, signal.SIGTERM)  # the same again, as launchers send it
    child.join(1.0 + ECHO)
    assert child.exitcode is None
    os.kill(child.pid, signal.SIGINT)
    child.join(60)
    assert child.exitcode == 130


def test_ignored_signals_stay_ignored_and_threads_are_left_alone() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.signal == 0
            os.kill(os.getpid(), signal.SIGUSR1)
            assert stop.signal == signal.SIGUSR1
    finally:
        signal.signal(signal.SIGHUP, before)
    handlers = []

    def elsewhere() -> None:
        with stopping():
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGTERM)]


def test_the_command_ends_with_one_line_and_the_signals_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise Interrupted("encoder", signal.SIGTERM)

    monkeypatch.setattr("brainit.pipeline.run_stages", stop)
    result = CliRunner().invoke(app, ["demo", "--run", str(tmp_path)])
    assert result.exit_code == 143
    assert result.stderr.splitlines() == [
        "error: encoder: stopped by SIGTERM and saved; the same command goes on from here"
    ]


def test_order_of_sets_does_not_matter(tmp_path: Path, unbroken: dict[str, str]) -> None:
    """Python shuffles its sets by PYTHONHASHSEED, which the tests' own process leaves to chance."""
    script = "import sys, pathlib, toy; toy.train(pathlib.Path(sys.argv[1]))"
    environment = os.environ | {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, str(tmp_path)]
    subprocess.run(command, env=environment, cwd=Path(__file__).parent, check=True)
    assert toy.traces(tmp_path) == unbroken


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("optimiser", ["adamw", "adam_amsgrad"])
def test_every_optimiser_goes_on_where_it_was(
    tmp_path: Path, optimiser: str, accumulate: int
) -> None:
    config = {"optimiser": optimiser, "accumulate": accumulate, "schedule": "plateau"}
    toy.train(tmp_path / "whole", **config)
    stop = at_step(12, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        toy.train(tmp_path / "parts", stop, **config)
    toy.train(tmp_path / "parts", **config)
    assert toy.traces(tmp_path / "parts") == toy.traces(tmp_path / "whole")


def test_damaged_last_goes_on_from_the_one_before(tmp_path: Path, unbroken: dict[str, str]) -> None:
    with pytest.raises(Interrupted):
        toy.train(tmp_path, at_step(17, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    last = tmp_path / "toy" / "last.safetensors"
    last.write_bytes(last.read_bytes()[:-1])
    done: list[int] = []
    with pytest.warns(RuntimeWarning, match="damaged"):
        toy.train(tmp_path, lambda epoch, index: done.append(epoch * 5 + index))
    assert done == list(range(15, STEPS))  # from the end of the third epoch
    assert toy.traces(tmp_path) == unbroken
    last.with_name("best.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"best.safetensors: damaged"):
        toy.train(tmp_path)


@pytest.mark.parametrize("optimiser", ["adamw", "adam_amsgrad"])
def test_a_disk_without_room_is_one_line_before_the_first_step(
    tmp_path: Path, optimiser: Literal["adamw", "adam_amsgrad"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights five times and moments three; what is there makes room when it is replaced."""
    weights = 4 * 8 + 8 + 8 + 1
    need = 4 * weights * (5 + 3 * (3 if optimiser == "adam_amsgrad" else 2))
    done: list[int] = []

    def work(run: RunFolder, names: object, console: object) -> None:
        toy.train(run.path, lambda epoch, index: done.append(index), optimiser=optimiser)

    def free(n_bytes: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=n_bytes))

    monkeypatch.setattr("brainit.pipeline.run_stages", work)
    arguments = ["train", "--run", str(tmp_path), "--profile", "tiny", "--set", "tracker=none"]
    free(need - 1)
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 1
    line = (
        r"error: \S+toy: checkpoints need 0.0 MB and 0.0 MB are free; free some space and repeat\n"
    )
    assert re.fullmatch(line, refused.stderr)
    assert not done
    assert not (tmp_path / "toy").exists()
    free(need)
    assert CliRunner().invoke(app, arguments).exit_code == 0
    files = {path.stat().st_ino: path.stat().st_size for path in (tmp_path / "toy").iterdir()}
    free(need - sum(files.values()))
    assert CliRunner().invoke(app, arguments).exit_code == 0
    free(need - sum(files.values()) - 1)
    assert CliRunner().invoke(app, arguments).exit_code == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_full_or_read_only_disk_is_one_line_and_the_checkpoint_stays(
    tmp_path: Path, number: int, unbroken: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = Faults(tmp_path, 0, Error(number, lasting=True))

    def work(run: RunFolder, names: object, console: object) -> None:
        toy.train(run.path, at_step(13, faults.__enter__))

    monkeypatch.setattr("brainit.pipeline.run_stages", work)
    arguments = ["train", "--run", str(tmp_path), "--profile", "tiny", "--set", "tracker=none"]
    try:
        result = CliRunner().invoke(app, arguments)
    finally:
        faults.__exit__(None, None, None)
    assert result.exit_code == 1
    line = result.stderr.rpartition("\r")[2]  # after the progress bar
    best = tmp_path / "toy" / "best.safetensors"
    if number == errno.ENOSPC:
        message = f"disk full while writing {best}; free some space and repeat"
    else:
        message = f"[Errno 30] Read-only file system: '{best}'"
    assert line == f"error: {message}\n"
    done: list[int] = []
    toy.train(tmp_path, lambda epoch, index: done.append(epoch * 5 + index))
    assert done == list(range(10, STEPS))
    assert toy.traces(tmp_path) == unbroken
