"""The whole, at its smallest: scenes to scores and a page, twice with the same result."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from brainit.cli import app

METHODS = {"coarse", "semantic", "fused", "shuffled", "ridge", "recovered"}
METRICS = {"pixcorr", "ssim", "two_way_early", "two_way_late", "two_way_clip"}
SMALL = (
    "simulation.subjects=2",
    "simulation.own_images=40",
    "simulation.shared_images=10",
    "simulation.external_images=30",
    "data.subjects=[1, 2]",
    "encoder.training.epochs=2",
    "clusters.count=6",
    "low_level.training.epochs=2",
    "semantic.training.epochs=2",
    "coarse.steps=5",
    "image.steps=4",
    "image.fused_start_step=1",
    "evaluation.subjects=[1, 2]",
    "evaluation.images_per_subject=4",
    "evaluation.bootstrap=50",
)


def _demo(folder: Path) -> str:
    overrides = [part for assignment in SMALL for part in ("--set", assignment)]
    result = CliRunner().invoke(app, ["demo", "--run", str(folder), *overrides])
    assert result.exit_code == 0, result.output + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    output = _demo(folder)
    assert output.splitlines()[-1] == f"report: {folder / 'report.html'}"
    return folder


def test_scores_have_the_promised_form(run: Path) -> None:
    scores = json.loads((run / "scores.json").read_text())
    assert set(scores) >= METHODS
    for method in METHODS:
        assert set(scores[method]) == METRICS
        for score in scores[method].values():
            assert score["low"] <= score["value"] <= score["high"]


def test_reconstructions_are_of_test_images_in_their_order(run: Path) -> None:
    with h5py.File(run / "dataset.h5") as data, h5py.File(run / "reconstructions.h5") as made:
        stored = data["image_id"][:]
        for name, group in made.items():
            rows = np.searchsorted(stored, group["image_id"][:])
            np.testing.assert_array_equal(group["seen"][:], data["images"][rows])
            for kind in ("coarse", "semantic", "fused", "ridge"):
                assert group[kind].shape == group["seen"].shape
                assert group[kind][:].std() > 1, f"{name}: {kind} is blank"


def test_report_is_one_offline_page(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    for word in ("Shuffled fMRI", "Ridge", "Functional clusters", "noise ceiling"):
        assert word in page


def test_nothing_is_left_half_written(run: Path) -> None:
    assert [path for path in run.rglob(".*") if path.is_file()] == []


def test_a_second_run_skips_what_is_done(run: Path) -> None:
    assert _demo(run).count("unchanged") == 12


def test_same_seed_gives_the_same_scores(run: Path, tmp_path: Path) -> None:
    _demo(tmp_path)
    assert (tmp_path / "scores.json").read_bytes() == (run / "scores.json").read_bytes()
