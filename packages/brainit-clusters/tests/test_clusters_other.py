"""Own data: every route gives the same dataset, wrong input one clear line, no leak."""

from __future__ import annotations

import csv
from dataclasses import replace
from types import SimpleNamespace

import h5py
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
    read_cifti,
    read_gifti,
    read_glmsingle,
    read_nifti,
    read_trial_table,
)

# float16 keeps 11 bits: relative rounding 2^-11, on z-scores up to 4; float32 errors are far less.
HALF = 4 * 2.0**-11
N_IMAGES, N_VOXELS, GRID = 7, 12, (3, 4, 2)
CONFIG = TrialsConfig(image_size=8, test_images=("1", "4"), validation_fraction=0.4)


def write_table(path, columns):
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="," if path.suffix == ".csv" else "\t")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


@pytest.fixture
def data(tmp_path):
    """Twenty trials in three sessions; 24 grid cells of which 12 are in the mask."""
    rng = np.random.default_rng(3)
    session = np.repeat([1, 2, 3], [6, 6, 8])
    shown = np.concatenate([np.arange(7), np.arange(7), rng.integers(0, N_IMAGES, 6)])
    images = rng.integers(0, 256, (N_IMAGES, 8, 8, 3), dtype=np.uint8)
    mask = np.zeros(GRID, bool)
    mask.ravel()[rng.choice(24, N_VOXELS, replace=False)] = True
    tuning = rng.normal(size=(N_IMAGES, N_VOXELS))
    betas = (2 + tuning[shown] + rng.normal(size=(20, N_VOXELS))).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "betas.npy", betas)
    columns = {"session": session, "run": np.arange(20) // 2, "image": shown}
    write_table(tmp_path / "trials.tsv", columns)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -10
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), tmp_path / "mask.nii.gz")
    return SimpleNamespace(
        folder=tmp_path, session=session, shown=shown, images=images, mask=mask, betas=betas,
        affine=affine, columns=columns, table=read_trial_table(tmp_path / "trials.tsv"),
    )  # fmt: skip


def volume(data):
    values = np.full((*GRID, len(data.shown)), np.nan, np.float32)
    values[data.mask] = data.betas.T
    return values


def as_npz(data):
    np.savez(data.folder / "betas.npz", betas=data.betas, other=np.zeros(2))
    return read_arrays("sub-01", f"{data.folder}/betas.npz:betas", data.table)


def as_hdf5(data):
    with h5py.File(data.folder / "betas.h5", "w") as file:
        file.create_dataset("a/betas", data=data.betas, chunks=(3, 5), compression="gzip")
    return read_arrays("sub-01", f"{data.folder}/betas.h5:/a/betas", data.table)


def as_npy(data):
    return read_arrays("sub-01", data.folder / "betas.npy", data.table)


def as_nifti(data, suffix=".nii.gz"):
    path = data.folder / f"betas{suffix}"
    nib.save(nib.Nifti1Image(volume(data), data.affine), path)
    return read_nifti("sub-01", path, data.folder / "mask.nii.gz", data.table)


def as_nifti_per_session(data):
    paths = []
    for session in (1, 2, 3):
        paths.append(data.folder / f"betas_{session}.nii")
        part = volume(data)[..., data.session == session]
        nib.save(nib.Nifti1Image(part, data.affine), paths[-1])
    return read_nifti("sub-01", paths, data.folder / "mask.nii.gz", data.table)


def write_gifti(path, values):
    arrays = [nib.gifti.GiftiDataArray(row, "NIFTI_INTENT_NONE") for row in values]
    nib.save(nib.gifti.GiftiImage(darrays=arrays), path)
    return path


def as_gifti(data):
    left = write_gifti(data.folder / "lh.func.gii", data.betas[:, :7])
    right = write_gifti(data.folder / "rh.func.gii", data.betas[:, 7:])
    return read_gifti("sub-01", left, right, data.table, space="fsaverage")


def as_cifti(data, scalar=True):
    axis = nib.cifti2.BrainModelAxis.from_surface(np.arange(1, 8), 20, "CortexLeft")
    axis += nib.cifti2.BrainModelAxis.from_mask(np.ones((1, 1, 2)), "THALAMUS_LEFT", np.eye(4))
    axis += nib.cifti2.BrainModelAxis.from_surface(np.arange(5) * 3, 20, "CortexRight")
    rows = (
        nib.cifti2.ScalarAxis([str(n) for n in range(20)])
        if scalar
        else nib.cifti2.SeriesAxis(0, 1, 20)
    )
    values = np.insert(data.betas, [7, 7], 9, axis=1)
    path = data.folder / f"betas.{'dscalar' if scalar else 'dtseries'}.nii"
    nib.save(nib.Cifti2Image(values, (rows, axis)), path)
    return read_cifti("sub-01", path, data.table)


def as_glmsingle(data, grid=True):
    path = data.folder / "TYPED_FITHRF_GLMDENOISE_RR.hdf5"
    with h5py.File(path, "w") as file:
        file["betasmd"] = volume(data) if grid else data.betas.T
        file["R2"] = np.zeros(GRID)
    mask = data.folder / "mask.nii.gz" if grid else None
    return read_glmsingle("sub-01", path, data.table, mask=mask)


ROUTES = {
    "npz": as_npz,
    "hdf5": as_hdf5,
    "nifti.gz": as_nifti,
    "nifti": lambda data: as_nifti(data, ".nii"),
    "nifti a session": as_nifti_per_session,
    "gifti": as_gifti,
    "dscalar": as_cifti,
    "dtseries": lambda data: as_cifti(data, scalar=False),
    "glmsingle": as_glmsingle,
    "glmsingle flat": lambda data: as_glmsingle(data, grid=False),
}


def prepared(data, subject, config=CONFIG, images="images.npy"):
    path = prepare_trials(data.folder / "dataset.h5", [subject], data.folder / images, config)
    with BrainDataset.open(path) as dataset:
        found = dataset.subject("sub-01")
        return found, dataset.images(found.image_id), dataset.attributes


def expected_betas(data, used):
    """Plain loops in float64: z-score every voxel in every session, average the repeats."""
    result = np.zeros((N_IMAGES, data.betas.shape[1]))
    trials = data.betas.astype(float)
    for column in trials.T:
        for session in (1, 2, 3):
            now = session == data.session
            sample = column[now & used]
            column[now] = (column[now] - sample.mean()) / sample.std()
    for row in range(N_IMAGES):
        result[row] = trials[data.shown == row].mean(axis=0)
    return result, trials


def test_betas_images_split_and_noise_ceiling(data):
    found, images, attributes = prepared(data, as_npy(data))
    truth, trials = expected_betas(data, np.ones(20, bool))
    np.testing.assert_allclose(found.betas, truth, atol=HALF)
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
    assert attributes["image_names"] == [str(n) for n in range(N_IMAGES)]


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_gives_the_same_dataset(data, route):
    plain, images, _ = prepared(data, as_npy(data))
    found, found_images, _ = prepared(data, ROUTES[route](data))
    for name in ("betas", "image_id", "repeats", "split", "noise_ceiling"):
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))
    np.testing.assert_array_equal(found_images, images)
    assert found.attributes == plain.attributes


def test_places(data):
    found, *_ = prepared(data, as_nifti(data))
    np.testing.assert_array_equal(found.ijk, np.argwhere(data.mask))
    np.testing.assert_array_equal(found.affine, data.affine)
    np.testing.assert_array_equal(found.vertex, np.flatnonzero(data.mask))
    assert set(found.hemisphere) == {2}
    found, *_ = prepared(data, as_cifti(data))
    assert found.vertex.tolist() == [1, 2, 3, 4, 5, 6, 7, 0, 3, 6, 9, 12]
    assert found.hemisphere.tolist() == [0] * 7 + [1] * 5
    assert found.ijk is None
    found, *_ = prepared(data, as_gifti(data))
    assert found.vertex.tolist() == [*range(7), *range(5)]


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
    config = replace(CONFIG, normalisation="leak-free")
    before, *_ = prepared(data, as_npy(data), config)
    train = np.isin(data.shown, before.image_id[before.rows("train")])
    np.testing.assert_allclose(before.betas, expected_betas(data, train)[0], atol=4 * HALF)
    held_out = np.isin(data.shown, [1, 4])
    data.betas[held_out] += 100
    np.save(data.folder / "betas.npy", data.betas)
    after, *_ = prepared(data, as_npy(data), config)
    rows = before.rows("train")
    np.testing.assert_array_equal(after.betas[rows], before.betas[rows])
    leaky, *_ = prepared(data, as_npy(data))
    assert np.abs(leaky.betas[rows] - before.betas[rows]).max() > 0.1


def test_a_split_holds_for_an_image_whoever_sees_it(data):
    config = TrialsConfig(image_size=8, test_fraction=0.3, validation_fraction=0.3, seed=5)
    other = replace(as_npy(data), name="sub-02")
    half = TrialTable(data.table.session, np.where(data.shown > 3, "0", data.table.image))
    subjects = [as_npy(data), replace(other, table=half)]
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
    found, *_ = prepared(data, as_nifti(data))
    kept = np.delete(np.arange(N_VOXELS), [2, 5])
    assert found.attributes["dropped_vertices"] == {"nan": 1, "constant": 1, "no_ncsnr": 0}
    np.testing.assert_array_equal(found.vertex, np.flatnonzero(data.mask)[kept])
    np.testing.assert_array_equal(found.ijk, np.argwhere(data.mask)[kept])
    np.save(data.folder / "betas.npy", data.betas)
    ncsnr = np.ones(N_VOXELS)
    ncsnr[0] = np.nan
    found, *_ = prepared(data, replace(as_npy(data), ncsnr=ncsnr))
    assert found.vertex.tolist() == kept[1:].tolist()
    assert found.attributes["dropped_vertices"]["no_ncsnr"] == 1


def test_without_repeats_the_ceiling_is_not_a_number(data):
    np.save(data.folder / "betas.npy", data.betas[:7])
    data.table = TrialTable(np.full(7, "1"), np.arange(7).astype(str))
    found, *_ = prepared(data, as_npy(data))
    assert np.isnan(found.noise_ceiling).all()
    assert found.attributes["noise_ceiling_from"] == "unknown: no image was repeated"


def test_a_folder_of_images(data):
    folder = data.folder / "pictures"
    folder.mkdir()
    names = np.array([f"{letter}.png" for letter in "gfedcba"])
    for name, image in zip(names, data.images, strict=True):
        Image.fromarray(image).save(folder / name)
    data.table = replace(data.table, image=names[data.shown])
    config = replace(CONFIG, test_images=("f.png", "c.png"))
    found, images, attributes = prepared(data, as_npy(data), config, "pictures")
    np.testing.assert_array_equal(images, data.images[::-1])
    assert attributes["image_names"] == sorted(names)
    np.testing.assert_allclose(
        found.betas, expected_betas(data, np.ones(20, bool))[0][::-1], atol=HALF
    )
    assert [attributes["image_names"][n] for n in found.image_id[found.rows("test")]] == [
        "c.png",
        "f.png",
    ]
    (folder / "a.png").write_bytes((folder / "a.png").read_bytes()[:90])
    with pytest.raises(ValueError, match=r"a\.png: .*image"):
        prepared(data, as_npy(data), config, "pictures")
    Image.new("RGB", (8, 9)).save(folder / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: 8 x 9 pixels, expected a square"):
        prepared(data, as_npy(data), config, "pictures")
    (folder / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.png: no such file"):
        prepared(data, as_npy(data), config, "pictures")
    data.table = replace(data.table, image=np.full(20, "../images.npy"))
    with pytest.raises(ValueError, match="leads out of the folder"):
        prepared(data, as_npy(data), config, "pictures")


def test_a_shuffled_table_is_put_in_order_or_refused(data):
    order = np.random.default_rng(1).permutation(20)
    columns = data.columns | {"trial": np.arange(20)}
    shuffled = {name: values[order] for name, values in columns.items()}
    table = read_trial_table(write_table(data.folder / "shuffled.csv", shuffled))
    for name in ("session", "run", "image"):
        np.testing.assert_array_equal(getattr(table, name), getattr(data.table, name))
    del shuffled["trial"]
    path = write_table(data.folder / "shuffled.csv", shuffled)
    with pytest.raises(ValueError, match=r"shuffled\.csv: column session: .* comes back"):
        read_trial_table(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": None}, "no column image"),
        ({"image": [""] * 20}, "trial 0: column image is empty"),
        ({"trial": [0] * 20}, "column trial must hold each of 0 to 19 once"),
        ({"trial": ["x"] * 20}, "column trial holds no whole number"),
        ({"split": ["dev"] * 20}, "column split holds 'dev'"),
        ({"subject": ["a", "b"] * 10}, "column subject names"),
        ({"session": [1, 2] * 10}, "column session: '1' comes back at trial 2"),
    ],
)
def test_wrong_tables_are_named(data, change, message):
    columns = {n: v for n, v in (data.columns | change).items() if v is not None}
    path = write_table(data.folder / "wrong.tsv", columns)
    with pytest.raises(ValueError, match=r"wrong\.tsv: ") as caught:
        read_trial_table(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_image_in_two_splits_is_refused(data):
    split = np.full(20, "train")
    split[13] = "test"
    data.table = replace(data.table, split=split)
    with pytest.raises(ValueError, match=r"column split: image \d is test, elsewhere train"):
        prepared(data, as_npy(data), TrialsConfig(image_size=8))
    with pytest.raises(ValueError, match="not both"):
        prepared(data, as_npy(data))


def test_trials_that_do_not_fit_are_named(data):
    np.save(data.folder / "betas.npy", data.betas[:-1])
    with pytest.raises(ValueError, match=r"betas\.npy: 19 trials, .*trials\.tsv has 20"):
        as_npy(data)
    data.betas[4] = np.nan
    np.save(data.folder / "betas.npy", data.betas)
    with pytest.raises(ValueError, match=r"session 1 of .*trials\.tsv: trial 4 has no finite"):
        prepared(data, as_npy(data))
    data.table = replace(data.table, image=np.full(20, "7"))
    with pytest.raises(ValueError, match=r"images\.npy: 7 images, .* says '7'"):
        prepared(data, as_npy(data))
    assert not (data.folder / "dataset.h5").exists()


@pytest.mark.parametrize("kind", ["U3", "c16", "?", "O"])
def test_what_are_no_numbers_is_refused(data, kind):
    np.save(data.folder / "betas.npy", np.zeros((20, 3)).astype(kind), allow_pickle=True)
    with pytest.raises(ValueError, match=r"betas\.npy: "):
        as_npy(data)


def test_whole_numbers_are_scale_free(data):
    """NSD-like int16 files hold 300 times the value; z-scores do not care."""
    data.betas = np.rint(data.betas * 300) / 300
    plain, *_ = prepared(data, as_hdf5(data))
    np.save(data.folder / "betas.npy", np.rint(data.betas * 300).astype(np.int16))
    scaled, *_ = prepared(data, as_npy(data))
    np.testing.assert_allclose(scaled.betas, plain.betas, atol=HALF)


def test_data_in_other_files_are_refused(data):
    with h5py.File(data.folder / "real.h5", "w") as file:
        file["x"] = data.betas
    layout = h5py.VirtualLayout((20, N_VOXELS), "f4")
    layout[:] = h5py.VirtualSource(data.folder / "real.h5", "x", (20, N_VOXELS))
    with h5py.File(data.folder / "links.h5", "w") as file:
        file["link"] = h5py.ExternalLink("real.h5", "x")
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset(
            "external", (20, N_VOXELS), "f4", external=[("betas.npy", 0, h5py.h5f.UNLIMITED)]
        )
    for name in ("link", "virtual", "external"):
        with pytest.raises(ValueError, match=rf"links\.h5: dataset {name} lies in another file"):
            read_arrays("sub-01", f"{data.folder}/links.h5:{name}", data.table)
    as_gifti(data)
    path = data.folder / "lh.func.gii"
    text = path.read_text().replace("GZipBase64Binary", "ExternalFileBinary")
    path.write_text(text)
    with pytest.raises(ValueError, match=r"lh\.func\.gii: data lie in another file"):
        read_gifti("sub-01", path, path, data.table)


def test_wrong_grids_and_kinds_are_named(data):
    mask = data.folder / "mask.nii.gz"
    path = data.folder / "wrong.nii"
    nib.save(nib.Nifti1Image(volume(data)[:2], data.affine), path)
    with pytest.raises(ValueError, match=r"wrong\.nii: shape \(2, 4, 2, 20\), expected \(3, 4, 2"):
        read_nifti("sub-01", path, mask, data.table)
    nib.save(nib.Nifti1Image(volume(data), np.eye(4)), path)
    with pytest.raises(ValueError, match=r"wrong\.nii: affine differs"):
        read_nifti("sub-01", path, mask, data.table)
    with pytest.raises(ValueError, match=r"wrong\.nii: is a Nifti1Image, expected CIFTI betas"):
        read_cifti("sub-01", path, data.table)
    nib.save(nib.Nifti1Image(np.zeros(GRID, np.uint8), data.affine), mask)
    with pytest.raises(ValueError, match=r"mask\.nii\.gz: mask holds no voxel"):
        read_nifti("sub-01", path, mask, data.table)
    np.save(data.folder / "TYPED.npy", {"betasmd": 1}, allow_pickle=True)
    with pytest.raises(ValueError, match=r"TYPED\.npy: .*pickle.*expected the \.hdf5"):
        read_glmsingle("sub-01", data.folder / "TYPED.npy", data.table)
    with pytest.raises(FileNotFoundError, match=r"none\.npy: no such file"):
        read_arrays("sub-01", data.folder / "none.npy", data.table)


FILES = {
    "betas.npy": as_npy,
    "betas.npz": as_npz,
    "betas.h5": as_hdf5,
    "betas.nii": lambda data: as_nifti(data, ".nii"),
    "betas.nii.gz": as_nifti,
    "lh.func.gii": as_gifti,
    "betas.dscalar.nii": as_cifti,
    "TYPED_FITHRF_GLMDENOISE_RR.hdf5": as_glmsingle,
}
REREAD = {
    "betas.npy": lambda d, p: read_arrays("sub-01", p, d.table),
    "betas.npz": lambda d, p: read_arrays("sub-01", f"{p}:betas", d.table),
    "betas.h5": lambda d, p: read_arrays("sub-01", f"{p}:/a/betas", d.table),
    "betas.nii": lambda d, p: read_nifti("sub-01", p, d.folder / "mask.nii.gz", d.table),
    "betas.nii.gz": lambda d, p: read_nifti("sub-01", p, d.folder / "mask.nii.gz", d.table),
    "lh.func.gii": lambda d, p: read_gifti("sub-01", p, d.folder / "rh.func.gii", d.table),
    "betas.dscalar.nii": lambda d, p: read_cifti("sub-01", p, d.table),
    "TYPED_FITHRF_GLMDENOISE_RR.hdf5": lambda d, p: read_glmsingle(
        "sub-01", p, d.table, mask=d.folder / "mask.nii.gz"
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # nibabel's, about headers that we changed
@pytest.mark.parametrize("name", FILES)
def test_cut_and_changed_files_are_read_or_named(data, name):
    """Cuts must be noticed; a changed byte gives values or one ValueError that names the file."""
    FILES[name](data)
    path = data.folder / name
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [whole[:length] for length in np.linspace(0, len(whole) - 9, 25).astype(int)]
    for _ in range(60):
        changed = bytearray(whole)
        changed[rng.integers(min(len(whole), 2000))] = rng.integers(256)
        damaged.append(bytes(changed))
    refused = []
    for content in damaged:
        path.write_bytes(content)
        try:
            REREAD[name](data, path).betas.read(np.arange(20))
        except ValueError as error:
            refused.append(str(error))
        else:
            assert len(content) == len(whole), f"a cut to {len(content)} bytes was not noticed"
    assert all(name in line and "\n" not in line for line in refused)
    assert len(refused) >= 25


@pytest.mark.parametrize(
    "wrong",
    [{"normalisation": "x"}, {"test_fraction": 1}, {"validation_fraction": -1}, {"image_size": 0}],
)
def test_unknown_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrialsConfig(**wrong)


def test_claims_and_pickles_are_refused(data):
    with h5py.File(data.folder / "huge.h5", "w") as file:
        file.create_dataset("x", (20, 2**41), "f4", chunks=(1, 1024))
    with pytest.raises(ValueError, match=r"huge\.h5: dataset x .* holds no values"):
        read_arrays("sub-01", f"{data.folder}/huge.h5:x", data.table)
    np.savez(data.folder / "pickled.npz", x=np.array([{}, {}]))
    with pytest.raises(ValueError, match=r"pickled\.npz: .*allow_pickle"):
        read_arrays("sub-01", data.folder / "pickled.npz", data.table)


def test_tables_made_by_hand_hold_strings(data):
    with pytest.raises(ValueError, match="image is int64, expected strings"):
        TrialTable(data.table.session, data.shown)
