"""Own data: every route gives the same dataset, and no test image leaks."""

from __future__ import annotations

from dataclasses import replace

import brainit_clusters_own_data as own
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from brainit_clusters import BrainDataset, NSDConfig, prepare_nsd
from brainit_clusters.data.other import (
    Places,
    TrialsConfig,
    TrialTable,
    prepare_trials,
    read_arrays,
)
from brainit_clusters.maps import mesh_of, noise_ceiling_map, write_map


def test_betas_images_split_and_noise_ceiling(data):
    found, images, attributes = own.prepared(data, own.as_npy(data))
    truth, trials = own.expected_betas(data, np.ones(20, bool))
    np.testing.assert_allclose(found.betas, truth, atol=own.HALF)
    np.testing.assert_array_equal(images, data.images)
    assert found.image_id[found.rows("test")].tolist() == [1, 4]
    assert len(found.rows("val")) == 2
    assert len(found.rows("train")) == 3
    counts = np.bincount(data.shown)
    np.testing.assert_array_equal(found.repeats, counts)
    # Plain formula: noise from each image's unbiased variance, weighted by its freedom.
    noise = (
        sum(trials[data.shown == row].var(axis=0, ddof=1) * (n - 1) for row, n in enumerate(counts))
        / (counts - 1).sum()
    )
    signal = np.maximum(trials.var(axis=0) - noise, 0)
    assert (signal > 0).any()
    # float32 sums of 20 z-scores: absolute error far below 20 * 2^-22.
    np.testing.assert_allclose(
        found.noise_ceiling, signal / (signal + noise * np.mean(1 / counts)), atol=20 * 2.0**-22
    )
    assert attributes["source"] == "own data"
    assert attributes["image_names"] == [str(n) for n in range(own.N_IMAGES)]


@pytest.mark.parametrize("route", own.ROUTES)
def test_every_route_gives_the_same_dataset(data, route):
    plain, images, _ = own.prepared(data, own.as_npy(data))
    found, found_images, _ = own.prepared(data, own.ROUTES[route](data))
    for name in ("betas", "image_id", "repeats", "split", "noise_ceiling"):
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))
    np.testing.assert_array_equal(found_images, images)
    grid = {"volume_shape": list(own.GRID)} if found.ijk is not None else {}
    assert found.attributes == {**plain.attributes, **grid}


def test_places(data):
    found, *_ = own.prepared(data, own.as_nifti(data))
    np.testing.assert_array_equal(found.ijk, np.argwhere(data.mask))
    np.testing.assert_array_equal(found.affine, data.affine)
    np.testing.assert_array_equal(found.vertex, np.flatnonzero(data.mask))
    assert set(found.hemisphere) == {2}
    found, *_ = own.prepared(data, own.as_cifti(data))
    assert found.vertex.tolist() == [1, 2, 3, 4, 5, 6, 7, 0, 3, 6, 9, 12]
    assert found.hemisphere.tolist() == [0] * 7 + [1] * 5
    assert found.ijk is None
    found, *_ = own.prepared(data, own.as_gifti(data))
    assert found.vertex.tolist() == [*range(7), *range(5)]


def test_meshes_are_known_by_their_size(data, tmp_path):
    """Maps need no question where the files themselves say how many vertices there are."""
    name = "n_vertices_per_hemisphere"
    for unknown in (own.as_npy(data), own.as_nifti(data), own.as_gifti(data)):  # gifti: 7 and 5
        assert name not in own.prepared(data, unknown)[2]
    assert own.prepared(data, own.as_gifti(data, n_left=6))[2][name] == 6
    cifti = replace(own.as_cifti(data, n_vertices=10_242), space="fsaverage")
    found, _, attributes = own.prepared(data, cifti)
    mesh = mesh_of(attributes)
    assert (mesh.density, mesh.n_vertices) == ("10k", 10_242)
    left, _ = write_map(tmp_path / "maps", found, noise_ceiling_map(found), mesh)
    assert nib.load(left).darrays[0].data.shape == (10_242,)


def test_a_map_of_a_volume_has_the_whole_grid(data, tmp_path):
    data.mask[...] = False
    data.mask.ravel()[: own.N_VOXELS] = True  # none in the last plane
    affine = data.affine
    nib.save(nib.Nifti1Image(data.mask.astype(np.uint8), affine), data.folder / "mask.nii.gz")
    found, *_ = own.prepared(data, own.as_nifti(data))
    (path,) = write_map(tmp_path / "maps", found, noise_ceiling_map(found), formats=("nifti",))
    values = nib.load(path).get_fdata()
    assert values.shape == own.GRID
    np.testing.assert_array_equal(np.isfinite(values), data.mask)


def test_the_nsd_tree_read_as_own_arrays_is_what_the_nsd_reader_reads(tree):
    nsd_file = prepare_nsd(
        tree.root, tree.root / "nsd.h5", NSDConfig(image_size=16), progress=False
    )
    with BrainDataset.open(nsd_file) as dataset:
        truth = dataset.subject("subj02")
        truth_images = dataset.images(truth.image_id)
    sides = [tree.betas[2, side][1:7] for side in ("lh", "rh")]
    np.save(tree.root / "b.npy", np.concatenate(sides).T)
    np.save(tree.root / "i.npy", tree.images)
    shown = tree.ids[1, tree.order - 1] - 1
    split = truth.split[np.searchsorted(truth.image_id, shown)]
    table = TrialTable(np.repeat(["1", "2", "3"], [5, 6, 7]), shown.astype(str), split=split)
    subject = read_arrays(
        "subj02", tree.root / "b.npy", table,
        places=Places.surface([np.arange(1, 7)] * 2),
        ncsnr=np.concatenate([tree.ncsnr[2, side][1:7] for side in ("lh", "rh")]),
    )  # fmt: skip
    path = prepare_trials(
        tree.root / "own.h5", [subject], tree.root / "i.npy", TrialsConfig(image_size=16)
    )
    with BrainDataset.open(path) as dataset:
        found = dataset.subject("subj02")
        np.testing.assert_array_equal(dataset.images(found.image_id), truth_images)
    for name in (
        "betas", "image_id", "repeats", "split", "vertex", "hemisphere", "noise_ceiling",
    ):  # fmt: skip
        np.testing.assert_array_equal(getattr(found, name), getattr(truth, name))


def test_leak_free_training_rows_do_not_depend_on_test_trials(data):
    config = replace(own.CONFIG, normalisation="leak-free")
    before, *_ = own.prepared(data, own.as_npy(data), config)
    train = np.isin(data.shown, before.image_id[before.rows("train")])
    np.testing.assert_allclose(before.betas, own.expected_betas(data, train)[0], atol=4 * own.HALF)
    held_out = np.isin(data.shown, [1, 4])
    data.betas[held_out] += 100
    np.save(data.folder / "betas.npy", data.betas)
    after, *_ = own.prepared(data, own.as_npy(data), config)
    rows = before.rows("train")
    np.testing.assert_array_equal(after.betas[rows], before.betas[rows])
    leaky, *_ = own.prepared(data, own.as_npy(data))
    assert np.abs(leaky.betas[rows] - before.betas[rows]).max() > 0.1


def test_a_split_holds_for_an_image_whoever_sees_it(data):
    config = TrialsConfig(image_size=8, test_fraction=0.3, validation_fraction=0.3, seed=5)
    other = replace(own.as_npy(data), name="sub-02")
    half = TrialTable(data.table.session, np.where(data.shown > 3, "0", data.table.image))
    subjects = [own.as_npy(data), replace(other, table=half)]
    splits = []
    for seed in (5, 5, 6, 7):
        path = prepare_trials(
            data.folder / "two.h5", subjects, data.folder / "images.npy", replace(config, seed=seed)
        )
        with BrainDataset.open(path) as dataset:
            one, two = (dataset.subject(name) for name in dataset.subjects)
        known = dict(zip(one.image_id, one.split, strict=True))
        assert [known[image] for image in two.image_id] == two.split.tolist()
        assert sorted(one.split).count("test") == 2
        splits.append(one.split.tolist())
    assert splits[0] == splits[1]
    assert splits[2] != splits[0] or splits[3] != splits[0]


def test_unusable_voxels_are_dropped_and_counted(data):
    data.betas[3, 2] = np.nan
    data.betas[data.session == 2, 5] = 7
    found, *_ = own.prepared(data, own.as_nifti(data))
    kept = np.delete(np.arange(own.N_VOXELS), [2, 5])
    assert found.attributes["dropped_vertices"] == {
        "nan": 1,
        "outside": 0,
        "constant": 1,
        "no_ncsnr": 0,
    }
    np.testing.assert_array_equal(found.vertex, np.flatnonzero(data.mask)[kept])
    np.testing.assert_array_equal(found.ijk, np.argwhere(data.mask)[kept])
    np.save(data.folder / "betas.npy", data.betas)
    ncsnr = np.ones(own.N_VOXELS)
    ncsnr[0] = np.nan
    found, *_ = own.prepared(data, replace(own.as_npy(data), ncsnr=ncsnr))
    assert found.vertex.tolist() == kept[1:].tolist()
    assert found.attributes["dropped_vertices"]["no_ncsnr"] == 1


def test_without_repeats_the_ceiling_is_not_a_number(data):
    np.save(data.folder / "betas.npy", data.betas[:7])
    data.table = TrialTable(np.full(7, "1"), np.arange(7).astype(str))
    found, *_ = own.prepared(data, own.as_npy(data))
    assert np.isnan(found.noise_ceiling).all()
    assert found.attributes["noise_ceiling_from"] == "unknown: no image was repeated"


def test_a_folder_of_images(data):
    folder = data.folder / "pictures"
    folder.mkdir()
    names = np.array([f"{letter}.png" for letter in "gfedcba"])
    for name, image in zip(names, data.images, strict=True):
        Image.fromarray(image).save(folder / name)
    data.table = replace(data.table, image=names[data.shown])
    config = replace(own.CONFIG, test_images=("f.png", "c.png"))
    found, images, attributes = own.prepared(data, own.as_npy(data), config, "pictures")
    np.testing.assert_array_equal(images, data.images[::-1])
    assert attributes["image_names"] == sorted(names)
    np.testing.assert_allclose(
        found.betas, own.expected_betas(data, np.ones(20, bool))[0][::-1], atol=own.HALF
    )
    assert [attributes["image_names"][n] for n in found.image_id[found.rows("test")]] == [
        "c.png",
        "f.png",
    ]
    (folder / "a.png").write_bytes((folder / "a.png").read_bytes()[:90])
    with pytest.raises(ValueError, match=r"a\.png: .*image"):
        own.prepared(data, own.as_npy(data), config, "pictures")
    Image.new("RGB", (8, 9)).save(folder / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: 8 x 9 pixels, expected a square"):
        own.prepared(data, own.as_npy(data), config, "pictures")
    (folder / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.png: no such file"):
        own.prepared(data, own.as_npy(data), config, "pictures")
    data.table = replace(data.table, image=np.full(20, "../images.npy"))
    with pytest.raises(ValueError, match="leads out of the folder"):
        own.prepared(data, own.as_npy(data), config, "pictures")
