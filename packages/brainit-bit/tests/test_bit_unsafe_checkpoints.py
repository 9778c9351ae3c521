"""Hostile checkpoints: every known class of attack on readers of pickles and of zip files.

Each is read with an audit hook armed under which only the file itself may be opened, with 256 MiB
of address space to spare and five seconds of processor time. The samples are built in
`hostile_pickles` and `hostile_files`.
"""

from __future__ import annotations

import binascii
import os
import pickle
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hostile_files
import hostile_pickles
import numpy as np
import pytest
import torch
from hostile_bytes import (
    Reduced,
    call,
    legacy,
    name,
    number,
    numbers,
    program,
    tensor,
    text,
    zipped,
)

from brainit_bit.importing import UnsafeCheckpoint
from brainit_bit.importing.reader import read_checkpoint

resource = pytest.importorskip("resource", reason="limits of memory need a Unix")
if sys.platform != "linux":
    pytest.skip("the memory in use is read from /proc", allow_module_level=True)

ARMED: list[str] = []  # the one file that may be opened
SEEN: list[str] = []
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not ARMED or event == "builtins.id":
        return
    if event == "open" and arguments[0] == ARMED[0] and not arguments[2] & WRITING:
        return
    SEEN.append(f"{event} {arguments}"[:200])
    raise PermissionError(event)


sys.addaudithook(audit)


def too_long(*_: object) -> None:
    raise AssertionError("more than five seconds of processor time")


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Nothing may happen but reading `path`, in little time and memory."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGVTALRM, too_long)
    SEEN.clear()
    resource.setrlimit(resource.RLIMIT_AS, (used + 256 * 2**20, limits[1]))
    signal.setitimer(signal.ITIMER_VIRTUAL, 5)
    ARMED.append(str(path))
    try:
        yield
    finally:
        ARMED.clear()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


SAMPLES: dict[str, Callable[[], Iterator[bytes]]] = {
    name: value
    for module in (hostile_pickles, hostile_files)
    for name, value in vars(module).items()
    if getattr(value, "__module__", None) == module.__name__
    and value.__annotations__ == {"return": "Iterator[bytes]"}
}


@pytest.fixture(autouse=True, scope="module")
def imports_done(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("warm") / "benign.pt"
    path.write_bytes(zipped(tensor(number(0), numbers(4), numbers(1)), s0=bytes(16)))
    read_checkpoint(path)


@pytest.mark.parametrize("kind", SAMPLES)
def test_refused_and_nothing_runs(kind: str, tmp_path: Path) -> None:
    samples = list(SAMPLES[kind]())
    assert len(samples) >= 3
    path = tmp_path / "hostile.pt"
    for i, sample in enumerate(samples):
        path.write_bytes(sample)
        result: object = None
        with guarded(path):
            try:
                result = read_checkpoint(path)
            except UnsafeCheckpoint as error:
                result = error
        assert not SEEN, (i, SEEN)
        assert isinstance(result, UnsafeCheckpoint), (i, type(result), sample[:200])
        message = str(result)
        assert message.startswith(f"{path}: refused: "), message
        assert message.isascii(), message
        assert message.isprintable(), message
        assert len(message) < len(str(path)) + 300, message


def test_the_guard_sees_what_a_real_unpickler_would_do(tmp_path: Path) -> None:
    trips = (b"cos\nsystem\n.", pickle.dumps(Reduced(eval, ("1",))), program(name("x.y", "z")))
    for sample in trips:
        with guarded(tmp_path), pytest.raises(PermissionError):
            pickle.loads(sample)
        assert SEEN


def test_the_guard_sees_other_files_and_much_memory(tmp_path: Path) -> None:
    with guarded(tmp_path / "a"), pytest.raises(PermissionError):
        (tmp_path / "b").open("rb")
    with guarded(tmp_path / "a"), pytest.raises(PermissionError):
        (tmp_path / "a").open("wb")
    with guarded(tmp_path), pytest.raises(MemoryError):
        bytearray(2**29)


def test_the_benign_forms_of_the_samples_are_read(tmp_path: Path) -> None:
    """What the samples are built from is itself fine: they are refused for what they add."""
    fine = tensor(number(0), numbers(2, 2), numbers(2, 1))
    record = name("model", "Net") + b")\x81}" + text("x") + b"Nsb"
    frame = b"\x95" + struct.pack("<Q", 2)
    path = tmp_path / "fine.pt"
    for sample in (
        zipped(fine, s0=bytes(16)),
        zipped(record),
        zipped(frame + b"}", 4),
        legacy(),
        zipped(b"]" * 90 + b"a" * 89),
        zipped(call("_operator", "getitem", name("typing", "Union"), name("torch", "Tensor"))),
        zipped(b"](" + b"N" * 190_000 + b"e"),
    ):
        path.write_bytes(sample)
        with guarded(path):
            read_checkpoint(path)
        assert not SEEN
    keys = program(b"]" + text("0") + b"a")
    raw = struct.pack("<q4f", 4, 1, 2, 3, 4)
    path.write_bytes(legacy(b"", b"", b"", program(fine), keys, rest=raw))
    assert torch.equal(read_checkpoint(path), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))


@pytest.mark.parametrize("zipfile_format", [True, False])
def test_damage_is_refused_or_harmless(zipfile_format: bool, tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    path = tmp_path / "model.pt"
    torch.save(model, path, _use_new_zipfile_serialization=zipfile_format)
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    samples = [whole[:cut] for cut in range(0, len(whole), len(whole) // 100)]
    for _ in range(300):
        damaged = bytearray(whole)
        for position in generator.integers(len(whole), size=generator.integers(1, 4)):
            damaged[position] = generator.integers(256)
        samples.append(bytes(damaged))
    refused = 0
    for sample in samples:
        path.write_bytes(sample)
        with guarded(path):
            try:
                read_checkpoint(path)
            except UnsafeCheckpoint:
                refused += 1
        assert not SEEN
    assert refused > 150  # no truncated file is read


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero"), tmp_path / "none"):
        with guarded(path), pytest.raises(FileNotFoundError, match="no such file"):
            read_checkpoint(path)


def test_crc_of_a_storage_is_checked(tmp_path: Path) -> None:
    content = struct.pack("<4f", 1, 2, 3, 4)
    raw = zipped(tensor(number(0), numbers(4), numbers(1)), s0=content)
    assert binascii.crc32(content)
    (tmp_path / "a.pt").write_bytes(raw.replace(content, content[:-1] + b"\1"))
    with pytest.raises(UnsafeCheckpoint, match="CRC"):
        read_checkpoint(tmp_path / "a.pt")
