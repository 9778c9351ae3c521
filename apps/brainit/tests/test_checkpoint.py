"""Checkpoints on a disk that fails: the old one or the new one is read, never a mixture."""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from faults import Crash, Death, Error, Faults
from safetensors.torch import load_file, save_file
from torch import nn

from brainit import hashed_file
from brainit.checkpoint import (
    DAMAGED,
    LAST,
    PREVIOUS,
    CheckpointError,
    clean,
    load_checkpoint,
    newest,
    save_checkpoint,
)

ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Thing:
    """Something small to save, whose every state is known by one number."""

    def __init__(self) -> None:
        self.module = nn.Linear(3, 2)
        self.optimiser = torch.optim.AdamW(self.module.parameters())
        self.module(torch.ones(3)).sum().backward()
        self.optimiser.step()

    def save(self, folder: Path, number: int) -> None:
        with torch.no_grad():
            self.module.weight.fill_(number)
            self.optimiser.state[self.module.weight]["exp_avg"].fill_(number)
        save_checkpoint(folder / LAST, self.module, self.optimiser, {"number": number})

    def load(self, path: Path) -> int:
        """The number, if all parts agree about it."""
        number: int = load_checkpoint(path, self.module, self.optimiser)["number"]
        assert (self.module.weight == number).all()
        assert (self.optimiser.state[self.module.weight]["exp_avg"] == number).all()
        return number


@pytest.fixture
def thing() -> Thing:
    return Thing()


@pytest.fixture
def folder(tmp_path: Path, thing: Thing) -> Path:
    """Holds checkpoints 1 and 2."""
    for number in (1, 2):
        thing.save(tmp_path / "c", number)
    return tmp_path / "c"


def steps_of_a_save(folder: Path) -> int:
    copy = folder.with_name("count")
    shutil.copytree(folder, copy)
    with Faults(copy) as faults:
        Thing().save(copy, 3)
    kinds = {step.split()[0] for step in faults.steps}
    assert kinds == {"open", "write", "fsync", "link", "replace", "unlink"}
    return len(faults.steps)


def test_safetensors_reads_what_is_written(tmp_path: Path) -> None:
    """All number types, odd sizes and shapes, against the format's own library."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"{dtype}{size}": torch.randint(0, 2, (size, 3), generator=generator).to(dtype)
        for dtype in hashed_file._DTYPES
        for size in (0, 1, 5)
    }
    tensors |= {"scalar": torch.tensor(3.5), "turned": torch.arange(12.0).view(3, 4).T}
    hashed_file.write(tmp_path / "x", tensors, {"text": 'with "quotes" and sha256'})
    found = load_file(tmp_path / "x")
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name
    assert hashed_file.is_whole(tmp_path / "x")
    save_file({"a": torch.zeros(2)}, tmp_path / "foreign")
    assert not hashed_file.is_whole(tmp_path / "foreign")


def test_crash_at_any_step_of_a_save_leaves_old_or_new(folder: Path, thing: Thing) -> None:
    for step in range(steps_of_a_save(folder)):
        for when in ("before", "torn", "after"):
            copy = folder.with_name(f"{step}{when}")
            shutil.copytree(folder, copy)
            with Faults(copy, step, Death(when)), pytest.raises(Crash):
                thing.save(copy, 3)
            path = newest(copy)
            assert path == copy / LAST
            number = thing.load(path)
            assert number in (2, 3)
            assert thing.load(copy / PREVIOUS) in (1, 2)
            # The next one finds nothing in its way, and what was half written is swept up.
            thing.save(copy, 4)
            clean(copy)
            assert thing.load(copy / LAST) == 4
            assert thing.load(copy / PREVIOUS) == number
            assert {path.name for path in copy.iterdir()} == {LAST, PREVIOUS}


def recovered(folder: Path, thing: Thing) -> int:
    """What a command does that finds the files of a killed one: go on from the newest, save."""
    clean(folder)
    path = newest(folder)
    assert path is not None
    number = thing.load(path)
    thing.save(folder, number + 1)
    return number


def test_a_second_crash_while_the_first_is_recovered_from(folder: Path, thing: Thing) -> None:
    """Every pair of the first twelve steps, of a save that dies and of what picks it up."""
    for first, second in itertools.product(range(12), repeat=2):
        copy = folder.with_name(f"{first}-{second}")
        shutil.copytree(folder, copy)
        when = ("before", "torn", "after")[(first + second) % 3]
        with Faults(copy, first, Death(when)), pytest.raises(Crash):
            thing.save(copy, 3)
        with Faults(copy, second, Death(when)), suppress(Crash):
            recovered(copy, thing)
        found = recovered(copy, thing)
        assert found in (2, 3, 4)
        assert thing.load(copy / LAST) == found + 1
        assert thing.load(copy / PREVIOUS) == found
        assert {path.name for path in copy.iterdir()} == {LAST, PREVIOUS}


def can_mount() -> bool:
    command = ["unshare", "-Urm", "true"]
    return bool(shutil.which("unshare")) and subprocess.run(command, check=False).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="file systems of our own cannot be mounted here")
def test_a_disk_that_will_not_do_is_known_before_the_first_step(tmp_path: Path) -> None:
    """On 32 file systems of a quarter to eight megabytes; half of them are too small."""
    script = Path(__file__).with_name("full_disk.py")
    command = ["unshare", "-Urm", sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert len(found) == 32
    assert sum(not disk["fits"] for disk in found) >= 10
    assert sum(disk["fits"] for disk in found) >= 10
    # What was said to fit does; no more than two are refused that might just have done.
    assert all(disk["fits"] for disk in found if disk["said"] == "")
    assert sum(disk["fits"] == (disk["said"] == "") for disk in found) >= 30
    for disk in found:
        assert disk["whole"]
        if disk["said"]:
            assert re.search(r"need [\d.]+ MB and [\d.]+ MB are free; free some", disk["said"])


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("number", ERRORS)
def test_failing_disk_is_an_error_and_the_earlier_checkpoint_stays(
    folder: Path, thing: Thing, number: int, lasting: bool
) -> None:
    for step in range(steps_of_a_save(folder)):
        copy = folder.with_name(f"{step}")
        shutil.copytree(folder, copy)
        with Faults(copy, step, Error(number, lasting)), pytest.raises(OSError) as error:  # noqa: PT011
            thing.save(copy, 3)
        assert error.value.errno == number
        assert error.value.filename
        path = newest(copy)
        assert path is not None
        assert thing.load(path) in (2, 3)


def damages(content: bytes) -> dict[str, bytes]:
    """A file without its end, at many lengths, and with one flipped bit, at many places."""
    rng = random.Random(0)
    found = {f"{n} bytes": content[:n] for n in [*range(0, len(content), 64), len(content) - 1]}
    for _ in range(200):
        at = rng.randrange(len(content))
        flipped = bytes([content[at] ^ 1 << rng.randrange(8)])
        found[f"byte {at}"] = content[:at] + flipped + content[at + 1 :]
    found["one byte more"] = content + b"\0"
    return found


def test_damage_is_found_and_the_one_before_serves(folder: Path, thing: Thing) -> None:
    content = (folder / LAST).read_bytes()
    for what, damaged in damages(content).items():
        (folder / LAST).write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            thing.load(folder / LAST)
        with pytest.warns(RuntimeWarning, match=r"last.safetensors: damaged; .* before it"):
            path = newest(folder)
        assert path == folder / PREVIOUS, what
        assert thing.load(path) == 1
        assert (folder / DAMAGED).read_bytes() == damaged


def test_missing_last_is_told(folder: Path, thing: Thing) -> None:
    (folder / LAST).unlink()
    with pytest.warns(RuntimeWarning, match=r"last.safetensors: missing"):
        path = newest(folder)
    assert path is not None
    assert thing.load(path) == 1
    thing.save(folder, 5)
    assert (thing.load(folder / LAST), thing.load(folder / PREVIOUS)) == (5, 1)


def test_no_whole_checkpoint_is_an_error_and_none_at_all_a_start(folder: Path) -> None:
    assert newest(folder.with_name("empty")) is None
    (folder / LAST).write_bytes(b"")
    (folder / PREVIOUS).write_bytes(b"")
    with pytest.raises(CheckpointError, match="no whole one is before it; delete"):
        newest(folder)
    (folder / PREVIOUS).unlink()
    with pytest.raises(CheckpointError, match="no whole one is before it; delete"):
        newest(folder)


def test_checkpoint_of_another_model_is_one_clear_line(folder: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"another model: weight has shape \[2, 3\] there and"
    ):
        load_checkpoint(folder / LAST, nn.Linear(4, 2))
    with pytest.raises(CheckpointError, match="shape None there"):
        load_checkpoint(folder / LAST, nn.Sequential(nn.Linear(3, 2)))


def test_file_systems_without_second_names_get_a_copy(
    folder: Path, thing: Thing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    thing.save(folder, 3)
    assert (thing.load(folder / LAST), thing.load(folder / PREVIOUS)) == (3, 2)
