"""Experiments on a whole run at its smallest, end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from micro import brainit
from rich.console import Console

from brainit.experiments import runs
from brainit.run_folder import RunFolder
from brainit_clusters.clusters import VoxelClusters
from brainit_clusters.data.dataset import BrainDataset

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["branches", "tokens"])
def test_an_experiment_leaves_a_page_its_numbers_and_a_manifest(
    run: Path, tmp_path: Path, name: str
) -> None:
    before = sorted(path for path in run.rglob("*"))
    said = brainit("experiment", name, "--run", run, "--out", tmp_path)
    assert str(tmp_path / "report.html") in said
    assert sorted(path for path in run.rglob("*")) == before
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["tests"]
    for test in results["tests"].values():
        assert test["low"] <= test["value"] <= test["high"]
        assert test["p"] <= test["p_holm"] <= 1
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["runs"] == {"base": str(run.resolve())}


def test_clusters_of_places_train_a_run_of_their_own(run: Path, tmp_path: Path) -> None:
    base, quiet = RunFolder(run), Console(quiet=True)
    new = runs.changed(base, tmp_path / "anatomical", ["clusters.kind=anatomical"], quiet)
    assert new.output("encoder", "encoder").samefile(base.output("encoder", "encoder"))
    clusters = VoxelClusters.load(new.output("clusters", "clusters"))
    with BrainDataset.open(new.output("prepare", "dataset")) as dataset:
        sides = np.concatenate([dataset.subject(name).hemisphere for name in clusters.subjects])
    # Both spheres are farther apart than wide, so no group of places is of both hemispheres.
    for cluster in range(clusters.n_clusters):
        assert len(np.unique(sides[clusters.labels == cluster])) == 1
    assert json.loads(new.output("evaluate", "scores").read_text())["fused"]
