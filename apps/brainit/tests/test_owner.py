"""Two commands in one run folder: one works, the other is told; a killed one locks nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import toy
from process_targets import own
from typer.testing import CliRunner

from brainit.cli import app
from brainit.profile import load_profile
from brainit.run_folder import RunFolder

WAIT = 60
PROCESSES = 8


def test_a_second_command_is_one_line_until_the_first_is_gone(tmp_path: Path) -> None:
    RunFolder(tmp_path, load_profile("tiny"))
    command = ["train", "--run", str(tmp_path), "--stage", "clusters"]
    for _ in range(3):
        ready = toy.event()
        owner = toy.child(own, tmp_path, ready)
        assert toy.started(owner, ready)
        refused = CliRunner().invoke(app, command)
        assert refused.exit_code == 1
        line = rf"error: .*process {owner.pid} on \S+ works in it; wait for its end, or stop it\n"
        assert re.fullmatch(line, refused.stderr)
        owner.kill()
        owner.join(WAIT)
        other = CliRunner().invoke(app, command)
        assert other.stderr == f"error: {tmp_path}: stage 'encoder' has not been run yet\n"


def test_of_many_one_works(tmp_path: Path) -> None:
    RunFolder(tmp_path, load_profile("tiny"))
    for _ in range(3):
        ready = toy.event()
        many = [toy.child(own, tmp_path, ready) for _ in range(PROCESSES)]
        assert ready.wait(WAIT)
        end = time.monotonic() + WAIT
        while sum(process.exitcode is None for process in many) > 1 and time.monotonic() < end:
            time.sleep(0.02)
        (owner,) = [process for process in many if process.exitcode is None]
        assert {process.exitcode for process in many if process is not owner} == {3}
        assert str(owner.pid) in (tmp_path / ".owner").read_text()
        owner.kill()
        owner.join(WAIT)


def test_a_folder_is_free_after_its_command(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, load_profile("tiny"))
    for _ in range(2):
        with run.owned():
            assert str(os.getpid()) in (tmp_path / ".owner").read_text()
        assert not (tmp_path / ".owner").exists()


def test_a_name_that_its_last_owner_has_just_removed_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, real, taken = RunFolder(tmp_path, load_profile("tiny")), fcntl.lockf, []

    def late(*arguments: Any) -> None:
        taken.append(real(*arguments))
        if len(taken) == 1:
            (tmp_path / ".owner").unlink()

    monkeypatch.setattr(fcntl, "lockf", late)
    with run.owned():
        assert (tmp_path / ".owner").exists()
    assert len(taken) == 2


def failing(number: int) -> Callable[..., None]:
    def lockf(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return lockf


def test_file_systems_without_locks_keep_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path, load_profile("tiny"))
    for number in (errno.ENOLCK, errno.ENOSYS):
        monkeypatch.setattr(fcntl, "lockf", failing(number))
        with run.owned():
            assert str(os.getpid()) in (tmp_path / ".owner").read_text()
    monkeypatch.setattr(fcntl, "lockf", failing(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)), run.owned():
        pass
