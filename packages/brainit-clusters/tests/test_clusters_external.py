"""The store of predicted responses: whole, or taken up again after any end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import h5py
import numpy as np
import pytest

from brainit_clusters.data.external import ExternalResponses, ExternalWriter, write_external

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (10, 4, 4, 3), dtype=np.uint8)
RESPONSES = {
    "subj01": RNG.normal(size=(10, 7)).astype(np.float16),
    "subj02": RNG.normal(size=(10, 3)).astype(np.float16),
}
SIZES = {"subj01": 7, "subj02": 3}

# Writes four rows, then dies while it writes the next four.
KILLED = """
import os, signal, sys
import numpy as np
import brainit_clusters.data.external as external

saved = np.load(sys.argv[2])
images, responses = saved["images"], {n: saved[n] for n in ("subj01", "subj02")}
part = lambda rows: (images[rows], {n: v[rows] for n, v in responses.items()})
writer = external.ExternalWriter(sys.argv[1], images.shape, {"subj01": 7, "subj02": 3}, "m")
writer.write(*part(slice(0, 4)))
external._fill(writer._file, slice(4, 8), images[:4], {"subj01": responses["subj01"][:4]})
writer._file.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def part(start, stop):
    return IMAGES[start:stop], {name: values[start:stop] for name, values in RESPONSES.items()}


def assert_whole(path):
    with ExternalResponses.open(path) as found:
        assert len(found) == 10
        np.testing.assert_array_equal(found.images(), IMAGES)
        np.testing.assert_array_equal(found.images([3, 0, 3]), IMAGES[[3, 0, 3]])
        for name, values in RESPONSES.items():
            np.testing.assert_array_equal(found.responses(name), values)
            np.testing.assert_array_equal(found.responses(name, [9, -1]), values[[9, -1]])


def test_rows_written_a_few_at_a_time_are_the_file_written_at_once(tmp_path):
    write_external(tmp_path / "once.h5", IMAGES, RESPONSES)
    with ExternalWriter(tmp_path / "parts.h5", IMAGES.shape, SIZES, "mark") as writer:
        for start in (0, 4, 8):
            assert writer.n_written == start
            assert not (tmp_path / "parts.h5").exists()
            writer.write(*part(start, start + 4))
    assert_whole(tmp_path / "once.h5")
    assert_whole(tmp_path / "parts.h5")
    assert {file.name for file in tmp_path.iterdir()} == {"once.h5", "parts.h5"}


def test_a_killed_run_is_gone_on_with(tmp_path):
    path, saved = tmp_path / "external.h5", tmp_path / "saved.npz"
    np.savez(saved, images=IMAGES, **RESPONSES)
    done = subprocess.run([sys.executable, "-c", KILLED, path, saved], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not path.exists()
    with pytest.raises(ValueError, match="other images, weights or precision"):
        ExternalWriter(path, IMAGES.shape, SIZES, "another mark")
    with ExternalWriter(path, IMAGES.shape, SIZES, "m") as writer:
        assert writer.n_written == 4
        writer.write(*part(4, 10))
    assert_whole(path)


def test_an_error_leaves_what_is_written_and_no_file(tmp_path):
    path = tmp_path / "external.h5"
    images, responses = part(4, 10)
    wrong = {**responses, "subj02": np.full((6, 3), np.inf, np.float16)}
    with ExternalWriter(path, IMAGES.shape, SIZES, "m") as writer:
        writer.write(*part(0, 4))
        with pytest.raises(ValueError, match="all finite"):
            writer.write(images, wrong)
    assert not path.exists()
    with ExternalWriter(path, IMAGES.shape, SIZES, "m") as writer:
        assert writer.n_written == 4
        writer.write(*part(4, 10))
    assert_whole(path)


def test_files_have_the_mode_of_other_new_files(tmp_path):
    (tmp_path / "plain").touch()
    with ExternalWriter(tmp_path / "external.h5", IMAGES.shape, SIZES, "m") as writer:
        writer.write(*part(0, 10))
    assert os.stat(tmp_path / "external.h5").st_mode == os.stat(tmp_path / "plain").st_mode


def test_another_kind_or_version_of_file_is_refused(tmp_path):
    path = write_external(tmp_path / "external.h5", IMAGES, RESPONSES)
    for name, value, message in (
        ("schema_version", "2", "schema_version is 2, expected 1"),
        ("kind", "else", "holds no external responses"),
    ):
        with h5py.File(path, "r+") as file:
            file.attrs[name] = value
        with pytest.raises(ValueError, match=message):
            ExternalResponses.open(path)


def test_forked_processes_read_what_one_process_reads(tmp_path):
    """A file that was opened before the fork, as by a loader's workers."""
    path = write_external(tmp_path / "external.h5", IMAGES, RESPONSES)
    rows = np.random.default_rng(1).integers(0, len(IMAGES), (4, 200))
    with (
        ExternalResponses.open(path) as found,
        ProcessPoolExecutor(4, get_context("fork")) as workers,
    ):
        _OPEN["file"] = found
        for wanted, responses in zip(rows, workers.map(_one_by_one, rows), strict=True):
            np.testing.assert_array_equal(responses, RESPONSES["subj01"][wanted])


_OPEN = {}


def _one_by_one(rows):
    return np.concatenate([_OPEN["file"].responses("subj01", [row]) for row in rows])
