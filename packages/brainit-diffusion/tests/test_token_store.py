"""The token store: bytes that do not depend on kills, reading by id, and what is refused."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from brainit_diffusion import _files, token_store
from brainit_diffusion.token_store import TokenStore, write_tokens

IDS = [f"image{i}" for i in range(11)]
SOURCE = {"model": "tiny"}
ALL = torch.randn(11, 3, 5, generator=torch.Generator().manual_seed(0))


def encode(rows: range) -> Tensor:
    return ALL[rows.start : rows.stop]


def write(folder: Path, encode: Callable[[range], Tensor] = encode, **others: object) -> TokenStore:
    return write_tokens(folder, IDS, encode, SOURCE, shard_size=4, **others)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    write(folder)
    return folder


def test_reading_by_id(finished: Path) -> None:
    store = TokenStore(finished)
    assert (store.shape, store.dtype, len(store)) == ((11, 3, 5), torch.float16, 11)
    assert list(store) == IDS
    assert "image3" in store
    assert "image11" not in store
    names = ["image7", "image0", "image10", "image7"]
    assert torch.equal(store.read(names), ALL[[7, 0, 10, 7]].half())
    assert torch.equal(store["image4"], ALL[4].half())
    with pytest.raises(KeyError, match="no image 'image11'"):
        store.read(["image0", "image11"])


def test_reading_into_memory_that_is_there(finished: Path) -> None:
    store = TokenStore(finished)
    out = torch.empty(2, *store.shape[1:], dtype=torch.float16)
    assert store.read(["image3", "image9"], out) is out
    assert torch.equal(out, ALL[[3, 9]].half())
    assert store.read([]).shape == (0, *store.shape[1:])
    for wrong in (out[:1], out.float()):
        with pytest.raises(ValueError, match=r"out: expected torch\.float16"):
            store.read(["image3", "image9"], wrong)


def test_files_are_plain_safetensors_with_their_hashes(finished: Path) -> None:
    manifest = json.loads((finished / "manifest.json").read_text())
    shards = [load_file(finished / shard["file"])["tokens"] for shard in manifest["shards"]]
    assert [len(shard) for shard in shards] == [4, 4, 3]
    assert torch.equal(torch.cat(shards), ALL.half())
    for shard in manifest["shards"]:
        content = (finished / shard["file"]).read_bytes()
        assert shard["sha256"] == hashlib.sha256(content).hexdigest()
        assert shard["bytes"] == len(content)
    TokenStore(finished).verify()


class Killed(BaseException):
    """Stops the writing as a kill does: nothing may catch it."""


@pytest.mark.parametrize("call", range(14))
@pytest.mark.parametrize("moment", ["before", "after"])
def test_stopped_at_every_write_and_resumed_to_the_same_bytes(
    call: int, moment: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four manifests and three shards, each synced and renamed: 14 steps that may fail."""
    calls = 0

    def stopping(name: str) -> Callable[..., object]:
        original = getattr(_files.os, name)

        def step(*args: object) -> object:
            nonlocal calls
            calls += 1
            if calls == call + 1 and moment == "before":
                raise Killed
            result = original(*args)
            if calls == call + 1:
                raise Killed
            return result

        return step

    folder = tmp_path / "store"
    with monkeypatch.context() as patched:
        for name in ("fsync", "replace"):
            patched.setattr(_files.os, name, stopping(name))
        with pytest.raises(Killed):
            write(folder)
    if (call, moment) != (13, "after"):
        with pytest.raises((FileNotFoundError, ValueError), match=r"unfinished|expected a token"):
            TokenStore(folder)
    write(folder)
    assert contents(folder) == contents(finished)


KILLED = """
import os, signal, sys, torch
from brainit_diffusion.token_store import write_tokens
everything = torch.randn(11, 3, 5, generator=torch.Generator().manual_seed(0))
def encode(rows):
    if rows.start == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return everything[rows.start:rows.stop]
write_tokens(sys.argv[1], [f"image{i}" for i in range(11)], encode, {"model": "tiny"}, shard_size=4)
"""


def test_a_process_that_is_killed(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    for first in (0, 8):
        run = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(first)], check=False)
        assert run.returncode == -signal.SIGKILL
    seen: list[range] = []

    def recorded(rows: range) -> Tensor:
        seen.append(rows)
        return encode(rows)

    write(folder, recorded)
    assert seen == [range(8, 11)]  # what was done is not done again
    assert contents(folder) == contents(finished)


def test_what_a_kill_left_behind_is_removed(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        write(tmp_path, lambda rows: encode(rows) if rows.start == 0 else stop())
    (tmp_path / ".tokens-00001.safetensors.abcd.tmp").write_bytes(b"half")
    (tmp_path / ".manifest.json.abcd.tmp").write_bytes(b"half")
    (tmp_path / "tokens-00001.safetensors").write_bytes(b"whole, but not counted")
    write(tmp_path)
    assert contents(tmp_path) == contents(finished)


def test_a_kill_at_the_very_first_file(finished: Path, tmp_path: Path) -> None:
    (tmp_path / ".manifest.json.abcd.tmp").write_bytes(b"half")
    write(tmp_path)
    assert contents(tmp_path) == contents(finished)


def stop() -> Tensor:
    raise Killed


def copy(folder: Path, to: Path) -> Path:
    for name, content in contents(folder).items():
        (to / name).write_bytes(content)
    return to


@settings(max_examples=20, deadline=None, derandomize=True)
@given(place=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_any_changed_byte_is_found(
    finished: Path, tmp_path_factory: pytest.TempPathFactory, place: int, flip: int
) -> None:
    folder = copy(finished, tmp_path_factory.mktemp("changed"))
    path = folder / "tokens-00001.safetensors"
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= flip
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"tokens-00001.*changed"):
        TokenStore(folder).verify()
    with pytest.raises(ValueError, match=r"tokens-00001.*changed"):
        write(folder)


def test_a_short_or_missing_shard_is_found_at_once(finished: Path, tmp_path: Path) -> None:
    path = copy(finished, tmp_path) / "tokens-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"bytes, expected"):
        TokenStore(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="tokens-00002"):
        TokenStore(tmp_path)


def test_another_store_is_not_overwritten(finished: Path, tmp_path: Path) -> None:
    before = contents(finished)
    with pytest.raises(ValueError, match="other source"):
        write_tokens(finished, IDS, encode, {"model": "large"}, shard_size=4)
    with pytest.raises(ValueError, match="other ids"):
        write_tokens(finished, IDS[::-1], encode, SOURCE, shard_size=4)
    with pytest.raises(ValueError, match="other shard_size"):
        write_tokens(finished, IDS, encode, SOURCE, shard_size=5)
    with pytest.raises(ValueError, match="other dtype"):
        write(finished, dtype=torch.bfloat16)
    assert contents(finished) == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="expected an empty folder"):
        write(tmp_path)


def test_tokens_that_cannot_be_kept(tmp_path: Path) -> None:
    large = ALL.clone()
    large[6, 1, 1] = 70_000
    with pytest.raises(ValueError, match=r"image 'image6'.*too large for torch.float16"):
        write(tmp_path / "half", lambda rows: large[rows.start : rows.stop])
    missing = ALL.clone()
    missing[9, 2, 0] = torch.nan
    with pytest.raises(ValueError, match=r"image 'image9'.*NaN"):
        write(tmp_path / "nan", lambda rows: missing[rows.start : rows.stop])
    store = write(tmp_path / "wide", lambda r: large[r.start : r.stop], dtype=torch.float32)
    assert torch.equal(store.read(IDS), large)
    with pytest.raises(ValueError, match=r"expected \[4, T, W\], got \(3, 3, 5\)"):
        write(tmp_path / "few", lambda rows: ALL[:3])
    with pytest.raises(ValueError, match=r"expected \[4, 3, 5\], got \(4, 3, 4\)"):
        write(tmp_path / "narrow", lambda rows: encode(rows)[..., rows.start // 4 :])
    with pytest.raises(ValueError, match="each once"):
        write_tokens(tmp_path / "twice", ["a", "a"], encode, SOURCE)
    with pytest.raises(ValueError, match="1 or more"):
        write_tokens(tmp_path / "none", IDS, encode, SOURCE, shard_size=0)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}'])
def test_other_manifests_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=r"not the manifest|format 2, expected 1"):
        TokenStore(tmp_path)


def test_reading_maps_a_shard_only_when_it_is_asked_for(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    original = token_store.safe_open
    monkeypatch.setattr(
        token_store, "safe_open", lambda p, **k: opened.append(p.name) or original(p, **k)
    )
    store = TokenStore(finished)
    assert opened == []
    store.read(["image5", "image6"])
    store.read(["image5"])
    assert opened == ["tokens-00001.safetensors"]
