"""The whole, at its smallest: scenes to scores and a page, twice with the same result."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
from micro import demo

METHODS = {"coarse", "semantic", "fused", "shuffled", "ridge", "recovered"}
METRICS = {"pixcorr", "ssim", "two_way_early", "two_way_late", "two_way_clip"}


def test_scores_have_the_promised_form(run: Path) -> None:
    scores = json.loads((run / "scores.json").read_text())
    assert set(scores) >= METHODS
    for method in METHODS:
        assert set(scores[method]) == METRICS
        for score in scores[method].values():
            # Where every resampled mean is the same, it may still round otherwise than the mean:
            # sums of ten values of one and less, each by 1e-16.
            assert score["low"] - 1e-15 <= score["value"] <= score["high"] + 1e-15


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
    assert demo(run).count("unchanged") == 12


def test_same_seed_gives_the_same_scores(run: Path, tmp_path: Path) -> None:
    demo(tmp_path)
    assert (tmp_path / "scores.json").read_bytes() == (run / "scores.json").read_bytes()
