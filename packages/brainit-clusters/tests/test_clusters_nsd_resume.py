"""An interrupted `prepare_nsd` goes on where it was, to the same bytes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import brainit_clusters_nsd_files as nsd
import numpy as np
import pytest

from brainit_clusters import NSDConfig, prepare_nsd
from brainit_clusters.data.nsd.spaces import SPACES

SURFACE = type(SPACES["fsaverage"])
READ = SURFACE.read_betas


class Killed(BaseException):
    """What a killed process never handles."""


def prepare(tree, name="dataset.h5", **settings):
    config = NSDConfig(image_size=16, **settings)
    return prepare_nsd(tree.root, tree.root / name, config, progress=False)


def counting(monkeypatch, stop):
    """Count the sessions that are read, and die at one of them."""
    read = []

    def read_betas(self, files, *args):
        if len(read) == stop:
            raise Killed
        read.append(files[0].parts[-4] + "/" + files[0].name)
        return READ(self, files, *args)

    monkeypatch.setattr(SURFACE, "read_betas", read_betas)
    return read


@pytest.mark.parametrize("stop", range(6))
def test_any_interruption_ends_in_the_same_bytes(tree, monkeypatch, stop):
    whole = prepare(tree, "whole.h5").read_bytes()
    before = counting(monkeypatch, stop)
    with pytest.raises(Killed):
        prepare(tree)
    assert not (tree.root / "dataset.h5").exists()
    assert len(before) == stop
    after = counting(monkeypatch, -1)
    assert prepare(tree).read_bytes() == whole
    assert len(after) == 6 - stop
    assert not set(before) & set(after)
    assert not list(tree.root.glob(".*"))


# Signals itself when it has made so many HDF5 datasets: in the images, then in the sessions.
SIGNALLED = """
import os, sys
import h5py
from brainit_clusters.cli import app

number, stop, root, output = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
create, made = h5py.Group.create_dataset, []

def create_dataset(self, *args, **options):
    made.append(create(self, *args, **options))
    if len(made) == stop:
        os.kill(os.getpid(), number)
    return made[-1]

h5py.Group.create_dataset = create_dataset
app(["nsd", "prepare", root, "-o", output, "--image-size", "16"])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_is_told_to_end_goes_on_in_the_same_bytes(tree, number):
    whole, output = prepare(tree, "whole.h5").read_bytes(), tree.root / "dataset.h5"
    ended = {signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGKILL: -signal.SIGKILL}[number]
    left: set[Path] = set()
    for stop in (1, 6):
        call = [sys.executable, "-c", SIGNALLED, *map(str, (int(number), stop, tree.root, output))]
        assert subprocess.run(call, check=False, capture_output=True).returncode == ended
        assert not output.exists()
        assert [p.name for p in tree.root.glob(".*")] == [".dataset.h5.parts"]
        half_written = set(tree.root.rglob("*.tmp"))
        assert bool(half_written) == (number == signal.SIGKILL)
        assert not half_written & left
        left = half_written
    assert prepare(tree).read_bytes() == whole
    assert not list(tree.root.glob(".*"))


def test_a_failure_between_subjects_keeps_the_first(tree, monkeypatch):
    whole = prepare(tree, "whole.h5").read_bytes()
    path = tree.beta_file(2, "rh", 2)
    content = path.read_bytes()
    broken = np.full((10, 6), np.nan, np.float32)
    nsd.write_mgh(path, broken)
    nsd.write_mgh(tree.beta_file(2, "lh", 2), broken)
    with pytest.raises(ValueError, match=r"^subj02: betas_session02: trial 0 has no finite"):
        prepare(tree)
    parts = sorted(p.name for p in (tree.root / ".dataset.h5.parts").iterdir())
    assert parts == ["settings.json", "subj01.h5", "subj02"]
    path.write_bytes(content)
    tree.write_betas()
    read = counting(monkeypatch, -1)
    assert prepare(tree).read_bytes() == whole
    assert len(read) == 6  # other inputs than before: nothing of the broken run is taken over


def test_a_folder_without_a_note_is_used_if_it_is_empty_and_left_alone_if_not(tree):
    folder = tree.root / ".dataset.h5.parts"
    folder.mkdir()
    assert prepare(tree).is_file()
    folder.mkdir()
    (folder / "mine.txt").write_text("not ours")
    with pytest.raises(FileExistsError):
        prepare(tree)
    assert (folder / "mine.txt").read_text() == "not ours"


@pytest.mark.parametrize("change", [{"mask": "streams"}, {"seed": 1}, {"repeats": "trials"}])
def test_parts_of_other_settings_are_not_used(tree, monkeypatch, change):
    counting(monkeypatch, 4)
    with pytest.raises(Killed):
        prepare(tree)
    read = counting(monkeypatch, -1)
    found = prepare(tree, **change).read_bytes()
    assert len(read) == 6
    assert found == prepare(tree, "whole.h5", **change).read_bytes()


def test_the_manifest_names_every_file_that_was_read(tree, monkeypatch):
    """More than HDF5 lets an attribute of its own hold: 64 KiB."""
    from brainit_clusters import BrainDataset

    with BrainDataset.open(prepare(tree)) as dataset:
        hashes = dataset.attributes["input_hashes"]
    files = {str(p.relative_to(tree.root)) for p in tree.root.rglob("*") if p.is_file()}
    assert files - set(hashes) == {"dataset.h5"}
    monkeypatch.setattr(
        "brainit_clusters.data.nsd.prepare.input_hashes",
        lambda *_: {f"{n:0100d}": "fingerprint:" + "0" * 64 for n in range(700)},
    )
    with BrainDataset.open(prepare(tree, "long.h5")) as dataset:
        assert len(json.dumps(dataset.attributes["input_hashes"])) > 2**16
