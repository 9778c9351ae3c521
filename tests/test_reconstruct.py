"""Reconstruction in shares, gone on with after a kill, of other splits, trials and samples."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from micro import brainit

from brainit.run_folder import RunFolder
from brainit.stages import scans

pytestmark = pytest.mark.slow
AGAIN = ("--set", "coarse.steps=4")  # other images than the ones that are there


def arrays(folder: Path) -> dict[str, np.ndarray]:
    with h5py.File(folder / "reconstructions.h5") as file:
        return {f"{s}/{name}": item[()] for s in file for name, item in file[s].items()}


def pictures(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.glob("images/**/*.png")}


@pytest.fixture(scope="module")
def whole(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(run, tmp_path_factory.mktemp("whole") / "run")
    brainit("reconstruct", "--run", folder, *AGAIN)
    return folder


def assert_same(folder: Path, whole: Path) -> None:
    expected, found = arrays(whole), arrays(folder)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    assert pictures(folder) == pictures(whole)


def test_shares_make_the_same_images_as_one_process(run: Path, whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    for index in (2, 0, 1):
        before = len(pictures(folder))
        said = brainit("reconstruct", "--run", folder, *AGAIN, "--shard", f"{index}/3")
        assert len(pictures(folder)) > before
        assert ("puts them together" in said) == (index != 1)
    assert_same(folder, whole)


def test_a_killed_reconstruction_goes_on_image_by_image(
    run: Path, whole: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    old = set(pictures(folder))
    command = ("reconstruct", "--run", folder, *AGAIN)
    # As many threads as here: sums of floats are cut by their number.
    process = subprocess.Popen(
        [sys.executable, "-c", "from brainit.cli import app; app()", *map(str, command)],
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    deadline = time.monotonic() + 300
    while not (new := set(pictures(folder)) - old) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    made = {name: (folder / name).stat().st_mtime_ns for name in new}
    assert made
    brainit("reconstruct", "--run", folder, *AGAIN)
    assert {name: (folder / name).stat().st_mtime_ns for name in new} == made
    assert_same(folder, whole)


def test_trials_and_samples_of_any_split_are_made_and_scored(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    averages = scans.load(RunFolder(folder))["subj02"]
    few = ("--set", "evaluation.images_per_subject=3")
    chosen = ("--subject", 2, "--trials", "--samples", 2, *few)
    brainit("reconstruct", "--run", folder, *chosen)
    single = scans.load(RunFolder(folder))["subj02"]
    assert len(single.image_id) == 9  # three repeats each
    for image in np.unique(single.image_id):
        mean = single.activations[single.image_id == image].mean(0)
        average = averages.activations[averages.image_id == image][0]
        # Both are stored in float16: 2^-11 of values up to 4, or a little more.
        np.testing.assert_allclose(mean, average, atol=8 * 2.0**-11)
    made = arrays(folder)
    first, second = (slice(0, 9), slice(9, 18))
    np.testing.assert_array_equal(made["subj02/trial"], np.tile(single.trial, 2))
    np.testing.assert_array_equal(made["subj02/coarse"][first], made["subj02/coarse"][second])
    assert not np.array_equal(made["subj02/fused"][first], made["subj02/fused"][second])
    brainit("evaluate", "--run", folder)
    with (folder / "per_image.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "fused"]
    assert sorted({int(row["repetition"]) for row in rows}) == list(range(6))
    assert len(rows) == 18
    for metric, score in json.loads((folder / "scores.json").read_text())["fused"].items():
        mean = np.mean([float(row[metric]) for row in rows])
        assert score["value"] == pytest.approx(mean)
        assert score["low"] <= score["value"] <= score["high"]
    brainit("report", "--run", folder)
    assert "from single trials, 2 samples" in (folder / "report.html").read_text()
    brainit("reconstruct", "--run", folder, "--split", "val", "--averages", "--samples", 1)
    with h5py.File(folder / "dataset.h5") as file:
        stored = file["subjects/subj02"]
        val = json.loads(stored["split"].attrs["names"]).index("val")
        expected = stored["image_id"][:][stored["split"][:] == val]
    np.testing.assert_array_equal(arrays(folder)["subj02/image_id"], expected[:3])
