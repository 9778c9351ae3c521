"""Groupings on one footing, and the commands that draw maps and print the comparison."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from nibabel.freesurfer.io import write_annot
from safetensors.numpy import save_file
from typer.testing import CliRunner

from brainit_clusters import SubjectData, fit_clusters, write_dataset
from brainit_clusters.analysis import (
    agreement,
    compare_groupings,
    coordinate_clusters,
    homogeneity,
    standard_groupings,
    voxel_coordinates,
)
from brainit_clusters.atlas_file import read_atlas
from brainit_clusters.cli import app

K, N = 3, 90


def call(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def refused(*args):
    result = call(*args)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Voxels that answer by their tuning, which lies anywhere on the mesh."""
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(40, K))
    truth = {name: rng.integers(0, K, N) for name in ("subj01", "subj02")}
    subjects = [
        SubjectData(
            name=name,
            betas=(signal[:, labels] + rng.normal(size=(40, N))).astype(np.float32),
            image_id=np.arange(40),
            repeats=np.ones(40, np.int16),
            split=np.array(["train", "test"] * 20),
            vertex=np.tile(np.arange(N // 2, dtype=np.int32), 2),
            hemisphere=np.repeat([0, 1], N // 2).astype(np.uint8),
            noise_ceiling=np.full(N, 0.5, np.float32),
            roi={"streams": labels.astype(np.int32)},
            roi_labels={"streams": {1: "ventral", 2: "lateral"}},
        )
        for name, labels in truth.items()
    ]
    attributes = {"space": "fsaverage", "n_vertices_per_hemisphere": 10_242, "source": "NSD"}
    images = np.zeros((40, 2, 2, 3), np.uint8)
    write_dataset(folder / "dataset.h5", images, np.arange(40), subjects, attributes)
    points = {
        name: (np.eye(4)[labels] + 0.1 * rng.normal(size=(N, 4))).astype(np.float32)
        for name, labels in truth.items()
    }
    save_file(points, folder / "embeddings.safetensors")
    clusters = fit_clusters(points, K, seed=0)
    clusters.save(folder / "clusters.safetensors")
    return folder, subjects, points, clusters, truth


def test_each_row_is_what_its_parts_say(world):
    _, subjects, points, clusters, truth = world
    mesh = np.random.default_rng(1).normal(size=(2, N // 2, 3))
    places = {s.name: voxel_coordinates(s, mesh) for s in subjects}
    groupings = standard_groupings(clusters, subjects, points, places)
    rows = {row.name: row for row in compare_groupings(groupings, subjects, truth)}
    assert list(rows) == ["functional clusters", "k-means", "anatomical", "streams", "random"]
    ours, anatomical, chance = (
        rows[name] for name in ("functional clusters", "anatomical", "random")
    )
    assert {row.n_groups for row in rows.values()} == {K}
    assert ours.agreement == agreement(clusters, truth).adjusted_rand == 1
    assert ours.homogeneity == homogeneity(clusters, subjects).mean
    assert ours.stability == rows["k-means"].agreement == 1
    placed = coordinate_clusters(places, K, 0)
    assert anatomical.agreement == agreement(placed, truth).adjusted_rand
    assert (
        anatomical.stability == agreement(placed, coordinate_clusters(places, K, 1)).adjusted_rand
    )
    assert rows["streams"].homogeneity == ours.homogeneity > chance.homogeneity + 0.2
    assert np.isnan(rows["streams"].stability)
    # The adjusted Rand index of unrelated labels: mean 0, deviation about K / N.
    assert abs(chance.agreement) < 5 * K / (2 * N)
    assert ours.effective_subjects == pytest.approx(2, abs=0.1)


def test_the_given_clusters_are_scored_not_a_new_fit(world):
    _, subjects, points, clusters, truth = world
    rng = np.random.default_rng(2)
    poor = replace(clusters, labels=rng.permutation(clusters.labels))
    rows = compare_groupings(standard_groupings(poor, subjects, points), subjects, truth)
    assert rows[0].name == "functional clusters"
    assert rows[0].agreement == agreement(poor, truth).adjusted_rand < 0.2
    assert rows[0].stability < 0.2  # a new fit of the same embeddings finds the truth


def test_places_of_voxels(world):
    subjects = world[1]
    mesh = [np.arange(N // 2)[:, None] * np.ones(3), -np.arange(N // 2)[:, None] * np.ones(3)]
    found = voxel_coordinates(subjects[0], mesh)
    sign = np.where(subjects[0].hemisphere == 0, 1, -1)
    np.testing.assert_array_equal(found, (sign * subjects[0].vertex)[:, None] * np.ones(3))
    with pytest.raises(ValueError, match="not known"):
        voxel_coordinates(subjects[0])
    with pytest.raises(ValueError, match="not on a mesh of 3"):
        voxel_coordinates(subjects[0], [np.zeros((3, 3))] * 2)


def test_compare_prints_the_table(world):
    folder, subjects, _, clusters, _ = world
    for side in ("lh", "rh"):
        place = np.random.default_rng(2).normal(size=(N // 2, 3))
        nib.freesurfer.write_geometry(folder / f"{side}.white", place, np.array([[0, 1, 2]]))
    args = ("compare", folder / "clusters.safetensors", "--dataset", folder / "dataset.h5")
    more = ("--embeddings", folder / "embeddings.safetensors", "--reference", "streams")
    white = ("--white", folder / "lh.white", folder / "rh.white")
    text = call(*args, *more, *white)
    assert text.exit_code == 0, text.output
    names = [line.split("  ")[0] for line in text.stdout.splitlines()[1:]]
    assert names == ["functional clusters", "k-means", "anatomical", "streams", "random"]
    rows = json.loads(call(*args, "--json").stdout)
    assert [row["name"] for row in rows] == ["functional clusters", "streams", "random"]
    assert rows[0]["homogeneity"] == pytest.approx(homogeneity(clusters, subjects).mean, abs=0.01)
    assert rows[0]["agreement"] is None
    assert "no atlas 'faces'" in refused(*args, "--reference", "faces")
    not_mesh = ("--white", folder / "lh.white", folder / "dataset.h5")
    assert "not a cortical mesh" in refused(*args, *not_mesh)


def test_an_atlas_file_is_one_more_grouping(world):
    folder, subjects, *_ = world
    clusters, dataset = folder / "clusters.safetensors", folder / "dataset.h5"
    rng = np.random.default_rng(3)
    sides = rng.integers(-1, 4, (2, N))  # on a mesh of N vertices, of which half are voxels
    truth = np.maximum(sides[:, : N // 2], 0).ravel()
    for side, labels in zip(("lh", "rh"), sides, strict=True):
        ctab = np.column_stack([rng.permutation(256)[:5]] * 3 + [np.zeros(5)]).astype(int)
        write_annot(folder / f"{side}.a.annot", labels, ctab, list("abcde"), fill_ctab=True)
        label = nib.gifti.GiftiDataArray(labels.astype(np.int32), "NIFTI_INTENT_LABEL")
        nib.save(nib.GiftiImage(darrays=[label]), folder / f"{side}.a.label.gii")
        nib.save(nib.MGHImage(np.int32(labels)[:, None, None], np.eye(4)), folder / f"{side}.a.mgz")
        np.save(folder / f"{side}.a.npy", labels.astype(float))
    for form in ("annot", "label.gii", "mgz", "npy"):
        found = read_atlas(str(folder / f"?h.a.{form}"), subjects[0])
        np.testing.assert_array_equal(found, truth, err_msg=form)
    args = ("compare", clusters, "--dataset", dataset, "--json", "--reference", "?h.a.annot")
    rows = json.loads(call(*args, "--atlas-file", folder / "?h.a.annot").stdout)
    row = next(row for row in rows if row["name"] == "?h.a.annot")
    assert row["agreement"] == 1
    assert row["n_groups"] == len(np.unique(truth))
    for pattern, message in (
        ("lh.a.annot", "expected '?h.' in its name"),
        ("?h.b.annot", "no such file"),
        ("?h.white.npy", "expected a whole number"),
        ("?h.short.npy", "not on a mesh of 3"),
        ("?h.none.annot", "not an annotation"),
    ):
        for side in ("lh", "rh"):
            np.save(folder / f"{side}.white.npy", np.full(N, 0.5))
            np.save(folder / f"{side}.short.npy", np.zeros(3, int))
            (folder / f"{side}.none.annot").write_bytes(b"nothing")
        assert message in refused(*args, "--atlas-file", folder / pattern)
    nowhere = replace(subjects[0], hemisphere=np.full(N, 2, np.uint8))
    with pytest.raises(ValueError, match="not known"):
        read_atlas(str(folder / "?h.a.annot"), nowhere)


def test_an_atlas_of_a_volume(world, tmp_path):
    labels = np.random.default_rng(4).integers(0, 5, (4, 5, 6)).astype(np.int16)
    ijk = np.argwhere(np.ones(labels.shape))[:N].astype(np.int32)
    places = {"ijk": ijk, "affine": np.eye(4), "attributes": {"volume_shape": labels.shape}}
    subject = replace(world[1][0], **places)
    nib.save(nib.Nifti1Image(labels[..., None], np.eye(4)), tmp_path / "subj01.nii.gz")
    found = read_atlas(str(tmp_path / "{subject}.nii.gz"), subject)
    np.testing.assert_array_equal(found, labels[tuple(ijk.T)])
    nib.save(nib.Nifti1Image(labels[:, :4], np.eye(4)), tmp_path / "subj01.nii.gz")
    with pytest.raises(ValueError, match="expected the betas'"):
        read_atlas(str(tmp_path / "subj01.nii.gz"), subject)


def test_plot_writes_every_kind_of_map(world):
    folder, subjects, _, clusters, _ = world
    save_file(
        {s.name: np.arange(N, dtype=np.float32) for s in subjects}, folder / "accuracy.safetensors"
    )
    out = folder / "maps"
    for what, stem in (
        (folder / "clusters.safetensors", "desc-v2c_dseg.label.gii"),
        (folder / "accuracy.safetensors", "stat-accuracy_statmap.func.gii"),
        ("noise-ceiling", "stat-noiseceiling_statmap.func.gii"),
        ("streams", "desc-streams_dseg.label.gii"),
    ):
        done = call("plot", what, "--dataset", folder / "dataset.h5", "-o", out, "-f", "gifti")
        assert done.exit_code == 0, done.output
        path = out / f"sub-02/func/sub-02_task-nsdcore_hemi-R_space-fsaverage_den-10k_{stem}"
        assert str(path) in done.stdout
    data = nib.load(path.with_name(path.name.replace("streams", "v2c"))).darrays[0].data
    np.testing.assert_array_equal(data[: N // 2], clusters.labels_of("subj02")[N // 2 :] + 1)


def test_plot_draws_one_subject(world):
    for module in ("matplotlib", "nilearn", "plotly"):
        pytest.importorskip(module)
    folder = world[0]
    args = ("plot", "noise-ceiling", "--dataset", folder / "dataset.h5", "--subject", "subj01")
    done = call(*args, "-o", folder / "drawn", "-f", "html")
    assert done.exit_code == 0, done.output
    found = sorted(path.suffix for path in (folder / "drawn").rglob("*") if path.is_file())
    assert found == [".html"]
    assert "exists already" in refused(*args, "-o", folder / "drawn", "-f", "html")


def test_plot_says_what_is_wrong(world, monkeypatch):
    folder = world[0]
    args = ("--dataset", folder / "dataset.h5", "-o", folder / "wrong")
    assert "expected a file, 'noise-ceiling' or one of ['streams']" in refused("plot", "x", *args)
    assert "--format 'svg'" in refused("plot", "streams", *args, "-f", "svg")
    assert "no subject 'a'" in refused("plot", "streams", *args, "--subject", "a")
    save_file({"subj09": np.zeros(3, np.float32)}, folder / "other")
    assert "no tensor 'subj01'" in refused("plot", folder / "other", *args)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install 'brainit-clusters[plot]'" in refused("plot", "streams", *args)
    assert not (folder / "wrong").exists()
