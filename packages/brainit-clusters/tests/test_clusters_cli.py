"""The command line: what it writes, and one line for every mistake."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from brainit_clusters import SubjectData, VoxelClusters, fit_clusters, write_dataset
from brainit_clusters.cli import app
from brainit_clusters.embeddings import load_embeddings

K, E, N = 3, 4, 40


def call(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def refused(*args):
    """The one line on stderr of a command that fails as it should."""
    result = call(*args)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture
def files(tmp_path):
    """Embeddings of two subjects and of a new one, and clusters of the former."""
    rng = np.random.default_rng(0)
    truth = {name: rng.integers(0, K, N) for name in ("subj01", "subj02", "subj05")}
    points = {
        name: (np.eye(E)[labels] + 0.05 * rng.normal(size=(N, E))).astype(np.float32)
        for name, labels in truth.items()
    }
    save_file({name: points[name] for name in ("subj02", "subj01")}, tmp_path / "old.safetensors")
    save_file({"subj05": points["subj05"]}, tmp_path / "new.safetensors")
    done = call("fit", tmp_path / "old.safetensors", "-k", K, "-o", tmp_path / "clusters")
    assert done.exit_code == 0, done.output
    return tmp_path, points, truth


def dataset(path, truth, names, n_voxels=N):
    rng = np.random.default_rng(1)
    signal = rng.normal(size=(20, K))
    subjects = [
        SubjectData(
            name=name,
            betas=signal[:, truth[name][:n_voxels]].astype(np.float32),
            image_id=np.arange(20),
            repeats=np.ones(20, np.int16),
            split=np.array(["train", "test"] * 10),
            vertex=np.arange(n_voxels, dtype=np.int32),
            hemisphere=(np.arange(n_voxels) % 2).astype(np.uint8),
            noise_ceiling=np.ones(n_voxels, np.float32),
            roi={"streams": truth[name][:n_voxels].astype(np.int32)},
            roi_labels={"streams": {1: "ventral", 2: "lateral"}},
        )
        for name in names
    ]
    return write_dataset(path, np.zeros((20, 2, 2, 3), np.uint8), np.arange(20), subjects, {})


def test_fit_is_fit_clusters(files):
    folder, points, _ = files
    found = VoxelClusters.load(folder / "clusters")
    truth = fit_clusters({name: points[name] for name in ("subj01", "subj02")}, K, seed=0)
    assert found.subjects == ("subj01", "subj02")
    np.testing.assert_array_equal(found.labels, truth.labels)
    assert found.embedding_hash == truth.embedding_hash


def test_outputs_have_the_mode_of_other_new_files(files):
    (files[0] / "ordinary").touch()
    assert (files[0] / "clusters").stat().st_mode == (files[0] / "ordinary").stat().st_mode


def test_transfer_is_assign(files):
    folder, points, _ = files
    inputs = (folder / "clusters", folder / "old.safetensors", folder / "new.safetensors")
    done = call("transfer", *inputs, "-o", folder / "moved")
    assert done.exit_code == 0, done.output
    old = load_embeddings(folder / "old.safetensors")
    labels, nearest = VoxelClusters.load(folder / "clusters").assign(points["subj05"], old)
    moved = VoxelClusters.load(folder / "moved")
    np.testing.assert_array_equal(moved.labels_of("subj05"), labels)
    np.testing.assert_array_equal(load_file(folder / "moved")["nearest"], nearest)
    # The file is one of clusters like any other: it can be described and transferred again.
    again = moved.assign(points["subj05"], {"subj05": points["subj05"]})[0]
    np.testing.assert_array_equal(again, labels)
    assert "40 (subj05 40)" in call("describe", folder / "moved").stdout


def test_describe(files):
    folder, _, truth = files
    path = dataset(folder / "dataset.h5", truth, ("subj01", "subj02"))
    text = call("describe", folder / "clusters", "--dataset", path).stdout
    assert "clusters     3, 0 of them empty" in text
    assert "voxels       80 (subj01 40, subj02 40)" in text
    assert "ventral" in text
    result = call("describe", folder / "clusters", "--dataset", path, "--json")
    found = json.loads(result.stdout)
    clusters = VoxelClusters.load(folder / "clusters")
    assert found["size"] == np.bincount(clusters.labels).tolist()
    assert found["homogeneity"] == pytest.approx(1)
    streams = found["atlases"]["streams"]
    assert streams["adjusted_rand"] == 1
    assert streams["purity"] == 1
    assert {pair["region"] for pair in streams["enriched"]} == {"ventral", "lateral"}
    assert json.loads(call("describe", folder / "clusters", "--json").stdout)["n_clusters"] == 3


def test_nothing_is_overwritten_unasked(files):
    folder = files[0]
    before = (folder / "clusters").read_bytes()
    args = ("fit", folder / "old.safetensors", "-k", 2, "-o", folder / "clusters")
    assert "exists already; add --force" in refused(*args)
    assert (folder / "clusters").read_bytes() == before
    assert call(*args, "--force").exit_code == 0
    assert VoxelClusters.load(folder / "clusters").n_clusters == 2
    assert "is a folder" in refused(*args[:-1], folder, "--force")


def test_failure_writes_nothing(files):
    folder = files[0]
    text = folder / "text"
    text.write_text("hello\nworld")
    before = sorted(folder.iterdir())
    out = folder / "out"
    old = folder / "old.safetensors"
    assert "no such file" in refused("fit", folder / "none", "-o", out)
    assert "holds no voxel embeddings" in refused("fit", text, "-o", out)
    assert "n >= 128" in refused("fit", old, "-o", out)
    new = folder / "new.safetensors"
    assert "no subject 'subj01'" in refused("transfer", folder / "clusters", new, new, "-o", out)
    assert "holds no voxel clusters" in refused("transfer", old, old, new, "-o", out)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "no tensors"),
        ({"a": np.zeros((3, 2), np.int32)}, "a is int32 (3, 2), expected floats"),
        ({"a": np.zeros(3, np.float32)}, "expected floats [n_voxels, E]"),
        ({"a": np.zeros((), np.float32)}, "expected floats [n_voxels, E]"),
        ({"a": np.zeros((0, 2), np.float32)}, "expected floats [n_voxels, E]"),
        ({"a": np.ones((3, 2), np.float32), "b": np.ones((3, 4), np.float32)}, "others 2"),
        ({"a": np.zeros((3, 2), np.float32)}, "bad: a: 3 of 3 voxels have an embedding that is"),
        ({"a": np.float32([[1, 2], [np.nan, 1], [0, np.inf]])}, "bad: a: 2 of 3 voxels have"),
    ],
)
def test_bad_embeddings_are_one_line(tmp_path, tensors, message):
    save_file(tensors, tmp_path / "bad")
    assert message in refused("fit", tmp_path / "bad", "-k", 1, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_mistakes_between_files_are_one_line(files):
    folder, points, truth = files
    other = {name: 1 + points[name] for name in ("subj01", "subj02")}
    save_file(other, folder / "other")
    save_file({"subj05": np.ones((2, 7), np.float32)}, folder / "wide")
    clusters, old, new = folder / "clusters", folder / "old.safetensors", folder / "new.safetensors"
    out = ("-o", folder / "out")
    assert "not those that" in refused("transfer", clusters, folder / "other", new, *out)
    assert "7 values a voxel, expected 4" in refused(
        "transfer", clusters, old, folder / "wide", *out
    )
    few = dataset(folder / "few.h5", truth, ("subj01", "subj02"), n_voxels=30)
    assert "subj01 has 30 voxels" in refused("describe", clusters, "--dataset", few)
    lacking = dataset(folder / "lacking.h5", truth, ("subj01",))
    assert "no subject 'subj02'" in refused("describe", clusters, "--dataset", lacking)
    assert "not a readable HDF5" in refused("describe", clusters, "--dataset", old)
    with h5py.File(lacking, "a") as file:
        del file["subjects/subj01/vertex"]
        file.copy("subjects/subj01", "subjects/subj02")
    assert "vertex" in refused("describe", clusters, "--dataset", lacking)
