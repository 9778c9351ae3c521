"""Map files: names parse back, every value comes back by nibabel, sidecars say what BIDS asks."""

from __future__ import annotations

import csv
import json

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainit_clusters import SubjectData, VoxelClusters
from brainit_clusters.maps import (
    MapName,
    atlas_map,
    cluster_map,
    mesh_of,
    noise_ceiling_map,
    number_map,
    write_map,
)
from brainit_clusters.maps.names import bids_label, subject_label

FSAVERAGE6 = {"space": "fsaverage", "n_vertices_per_hemisphere": 40_962}
STEM = "sub-01_task-nsdcore_{}space-fsaverage_den-41k_{}"


def make(vertex, hemisphere, **changes):
    n = len(vertex)
    values = {
        "name": "subj01",
        "betas": np.zeros((1, n), np.float32),
        "image_id": np.array([0]),
        "repeats": np.ones(1, np.int16),
        "split": np.array(["train"]),
        "vertex": np.asarray(vertex, np.int32),
        "hemisphere": np.asarray(hemisphere, np.uint8),
        "noise_ceiling": np.linspace(0, 1, n, dtype=np.float32),
    }
    return SubjectData(**{**values, **changes})


@pytest.fixture
def surface():
    # Not in ascending order, and the last vertex of the mesh among them.
    roi = {"streams": np.array([0, 5, 2, -1, 5], np.int32)}
    names = {"streams": {2: "early", 5: "ventral"}}
    return make([7, 3, 40_961, 0, 3], [0, 0, 0, 1, 1], roi=roi, roi_labels=names)


@pytest.fixture
def clusters():
    labels = np.array([2, 0, 1, 1, 2], np.int32)
    return VoxelClusters(labels, np.array([0, 5]), ("subj01",), np.zeros((3, 2), np.float32), "ab")


label = st.text("0123456789abcXYZ", min_size=1, max_size=8)
optional = st.none() | label
extension = st.sampled_from([".tsv", ".json", ".func.gii", ".label.gii", ".nii.gz", ".dlabel.nii"])
names = st.builds(
    MapName,
    sub=label,
    suffix=label,
    extension=extension,
    task=optional,
    hemi=st.sampled_from([None, "L", "R"]),
    space=optional,
    den=optional,
    stat=optional,
    desc=optional,
)


@settings(max_examples=1000, deadline=None)
@given(names)
def test_names_parse_back(name):
    assert MapName.parse(str(name)) == name
    assert name.path.name == str(name)


def test_names_are_those_of_bids():
    name = MapName(
        sub="01",
        task="nsdcore",
        hemi="L",
        space="fsaverage",
        den="164k",
        desc="v2c",
        suffix="dseg",
        extension=".label.gii",
    )
    text = "sub-01_task-nsdcore_hemi-L_space-fsaverage_den-164k_desc-v2c_dseg.label.gii"
    assert str(name) == text
    assert name.path.parts[:2] == ("sub-01", "func")
    for wrong in ("sub-01_hemi-L_task-x_dseg.tsv", "sub-01_sub-01_dseg.tsv", "dseg.tsv", "a-1_b.c"):
        with pytest.raises(ValueError, match="expected"):
            MapName.parse(wrong)
    with pytest.raises(ValueError, match="desc is 'a-b'"):
        MapName(sub="01", suffix="dseg", extension=".tsv", desc="a-b")
    assert [subject_label(n) for n in ("subj01", "sub-02", "sub", "P_3")] == [
        "01",
        "02",
        "sub",
        "P3",
    ]
    with pytest.raises(ValueError, match="no letter or digit"):
        bids_label("-_")


@pytest.mark.parametrize(
    ("count", "density"), [(10_242, "10k"), (40_962, "41k"), (163_842, "164k")]
)
def test_density_follows_from_the_number_of_vertices(count, density):
    mesh = mesh_of({"space": "fsaverage", "n_vertices_per_hemisphere": count})
    assert (mesh.space, mesh.density, mesh.n_vertices) == ("fsaverage", density, count)
    assert mesh_of({"space": "fsaverage"}, count) == mesh


def test_unknown_meshes_are_refused():
    assert mesh_of({"space": "fsaverage5"}).density == "10k"
    assert mesh_of({"space": "fsLR-32k"}).n_vertices == 32_492
    with pytest.raises(ValueError, match="does not say how many"):
        mesh_of({"space": "fsaverage"})
    with pytest.raises(ValueError, match="with 10 vertices a hemisphere"):
        mesh_of({"space": "fsaverage", "n_vertices_per_hemisphere": 10})
    with pytest.raises(ValueError, match="space is 'unknown'"):
        mesh_of({})
    with pytest.raises(ValueError, match="the dataset says 40962"):
        mesh_of(FSAVERAGE6, 10_242)


def test_clusters_come_back_from_gifti_and_cifti(surface, clusters, tmp_path):
    found, mesh = cluster_map(clusters, "subj01"), mesh_of(FSAVERAGE6)
    paths = write_map(tmp_path, surface, found, mesh, ("gifti", "cifti"), "nsdcore")
    func = tmp_path / "sub-01" / "func"
    stem = STEM.format("{}", "desc-v2c_dseg")
    assert paths == [
        func / (stem.format("hemi-L_") + ".label.gii"),
        func / (stem.format("hemi-R_") + ".label.gii"),
        func / (stem.format("") + ".dlabel.nii"),
        func / (stem.format("") + ".tsv"),
    ]
    for path, structure, expected in zip(
        paths[:2],
        ("CortexLeft", "CortexRight"),
        ({7: 3, 3: 1, 40_961: 2}, {0: 2, 3: 3}),
        strict=True,
    ):
        image = nib.load(path)
        truth = np.zeros(40_962, np.int32)
        truth[list(expected)] = list(expected.values())
        np.testing.assert_array_equal(image.darrays[0].data, truth)
        assert image.darrays[0].intent == 1002  # NIFTI_INTENT_LABEL
        assert image.meta["AnatomicalStructurePrimary"] == structure
        assert image.labeltable.get_labels_as_dict()[3] == "cluster 2"
    dense = nib.load(paths[2])
    axis = dense.header.get_axis(1)
    assert axis.vertex.tolist() == [3, 7, 40_961, 0, 3]
    assert set(axis.nvertices.values()) == {40_962}
    assert dense.get_fdata().astype(int).tolist() == [[1, 3, 2, 2, 3]]
    assert dense.nifti_header.get_intent()[0] == "ConnDenseLabel"
    with paths[3].open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["index"] for row in rows] == ["1", "2", "3"]
    red = nib.load(paths[0]).labeltable.labels[1].rgba[0]
    assert int(rows[0]["color"][1:3], 16) == round(255 * red)
    assert dense.header.get_axis(0).label[0][1][1][0] == pytest.approx(red, abs=1e-6)


def test_numbers_come_back_from_gifti_and_cifti(surface, tmp_path):
    mesh = mesh_of(FSAVERAGE6)
    values = np.array([0.5, np.nan, -1, 2, 0], np.float32)
    found = number_map("encoder-accuracy", values)
    left, right, dense = write_map(tmp_path, surface, found, mesh, ("gifti", "cifti"))
    assert left.name == (
        "sub-01_hemi-L_space-fsaverage_den-41k_stat-encoderaccuracy_statmap.func.gii"
    )
    for path, expected in ((left, {7: 0.5, 40_961: -1}), (right, {0: 2, 3: 0})):
        data = nib.load(path).darrays[0].data
        assert data.dtype == np.float32
        assert np.flatnonzero(np.isfinite(data)).tolist() == sorted(expected)
        assert {v: data[v] for v in expected} == expected
    np.testing.assert_array_equal(nib.load(dense).get_fdata(), [[np.nan, 0.5, -1, 2, 0]])
    with pytest.raises(ValueError, match=r"int64 of shape \(5,\), expected floats"):
        number_map("x", np.arange(5))


def test_volumes_come_back_from_nifti(tmp_path):
    ijk = np.array([[0, 2, 1], [3, 0, 4]], np.int32)
    affine = np.diag([1.8, 1.8, 1.8, 1.0])
    volume = make([5, 9], [2, 2], name="sub-A", ijk=ijk, affine=affine)
    (path,) = write_map(tmp_path, volume, noise_ceiling_map(volume), formats=("nifti",))
    image = nib.load(path)
    assert path.name == "sub-A_stat-noiseceiling_statmap.nii.gz"
    np.testing.assert_allclose(image.affine, affine)
    data = image.get_fdata()
    assert data.shape == (4, 3, 5)
    assert data[0, 2, 1] == 0
    assert data[3, 0, 4] == 1
    assert np.isfinite(data).sum() == 2
    with pytest.raises(ValueError, match="gifti needs a mesh"):
        write_map(tmp_path, volume, noise_ceiling_map(volume), force=True)


def test_sidecars_say_where_from_and_on_what(surface, clusters, tmp_path):
    root, source = tmp_path / "maps", tmp_path / "my run" / "dataset.h5"
    source.parent.mkdir()
    source.touch()
    other = tmp_path / "b" / "my_run" / "clusters.safetensors"
    found = cluster_map(clusters, "subj01")
    write_map(root, surface, found, mesh_of(FSAVERAGE6), sources=[source, other])
    for path in root.rglob("*.gii"):
        about = json.loads(path.with_name(path.name.split(".")[0] + ".json").read_text())
        hemi = MapName.parse(path.name).hemi
        assert about["SpatialReference"].endswith(
            f"tpl-fsaverage/tpl-fsaverage_hemi-{hemi}_den-41k_sphere.surf.gii"
        )
        assert about["Density"] == {"41k": "40962 vertices a hemisphere"}
        assert about["Sources"] == ["bids:myrun:dataset.h5", "bids:myrun2:clusters.safetensors"]
        assert about["Params"] == {"n_clusters": 3, "embedding_hash": "ab"}
    (table,) = root.rglob("*_dseg.tsv")
    columns = json.loads(table.with_suffix(".json").read_text())
    assert {"index", "name", "color"} <= columns.keys()
    about = json.loads((root / "dataset_description.json").read_text())
    assert about["DatasetType"] == "derivative"
    assert about["DatasetLinks"] == {"myrun": "../my run", "myrun2": "../b/my_run"}
    assert (root / about["DatasetLinks"]["myrun"] / "dataset.h5").samefile(source)
    # A second map adds to what the folder says and loses nothing.
    write_map(root, surface, atlas_map(surface, "streams"), mesh_of(FSAVERAGE6))
    assert json.loads((root / "dataset_description.json").read_text()) == about
    text = (root / "descriptions.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in text] == ["desc_id", "desc-v2c", "desc-streams"]


def test_atlases_keep_their_codes_and_names(surface):
    found = atlas_map(surface, "streams")
    assert found.values.tolist() == [0, 5, 2, 0, 5]
    assert found.labels == {2: "early", 5: "ventral"}
    with pytest.raises(ValueError, match="no atlas 'faces'"):
        atlas_map(surface, "faces")


def test_nothing_is_overwritten_unasked_or_half_written(surface, clusters, tmp_path):
    found, mesh = cluster_map(clusters, "subj01"), mesh_of(FSAVERAGE6)
    write_map(tmp_path, surface, found, mesh)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError, match="exists already"):
        write_map(tmp_path, surface, found, mesh, ("cifti",))  # the table is there
    beyond = make([50_000] * 5, [0] * 5)
    with pytest.raises(ValueError, match="vertex 50000 is not on fsaverage"):
        write_map(tmp_path, beyond, found, mesh, force=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    write_map(tmp_path, surface, found, mesh, force=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    (tmp_path / "dataset_description.json").write_text('{"Name": "NSD"}')
    with pytest.raises(ValueError, match="describes another dataset"):
        write_map(tmp_path, surface, noise_ceiling_map(surface), mesh)
    assert not list(tmp_path.rglob("*_statmap*"))
