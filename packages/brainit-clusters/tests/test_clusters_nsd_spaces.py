"""Every space of NSD in every form gives the same dataset; masks and test sets by name."""

from __future__ import annotations

from dataclasses import fields

import brainit_clusters_nsd_files as nsd
import h5py
import numpy as np
import pytest

from brainit_clusters import BrainDataset, NSDConfig, prepare_nsd
from brainit_clusters.data import store
from brainit_clusters.data.nsd.image_sets import named_test_set

# float16 keeps 11 bits: z-scores up to 4 are off by up to 4 x 2^-12, twice (both are rounded). The
# betas of the spaces are equal (steps of 1/300, exact in int16); float32's rounding is far less.
HALF = 4 * 2.0**-11


def prepare(tree, name="dataset.h5", **settings):
    settings = {"image_size": 16, "validation_fraction": 0.25} | settings
    return prepare_nsd(tree.root, tree.root / name, NSDConfig(**settings), progress=False)


def read(tree, subject="subj02", **settings):
    with BrainDataset.open(prepare(tree, **settings)) as dataset:
        return dataset.subject(subject), dataset


def column_of(data, space):
    """Which of the 20 vertices (left, then right) each column is."""
    if data.ijk is None:
        return data.vertex + 10 * data.hemisphere
    cell = np.ravel_multi_index(tuple(data.ijk.T), nsd.GRID)
    np.testing.assert_array_equal(cell, data.vertex)
    assert (np.diff(cell) > 0).all()
    place = np.full(60, -1)
    place[nsd.CELLS] = np.arange(20)
    return place[cell]


@pytest.mark.parametrize(("space", "form"), nsd.FORMS)
def test_every_space_and_form_holds_the_same(tree, space, form):
    nsd.write_space(tree, space, form)
    data, dataset = read(tree, space=space)
    truth, _ = read(tree, name="truth.h5")
    order = np.argsort(column_of(data, space))
    np.testing.assert_array_equal(column_of(data, space)[order], column_of(truth, "fsaverage"))
    np.testing.assert_allclose(data.betas[:, order], truth.betas, atol=HALF)
    np.testing.assert_array_equal(data.noise_ceiling[order], truth.noise_ceiling)
    np.testing.assert_array_equal(data.roi["streams"][order], truth.roi["streams"])
    for name in ("image_id", "repeats", "split"):
        np.testing.assert_array_equal(getattr(data, name), getattr(truth, name))
    if data.affine is not None:
        np.testing.assert_allclose(np.diag(data.affine), [1.8, 1.8, 1.8, 1])
        np.testing.assert_allclose(data.affine[:3, 3], -4)
        assert data.attributes["volume_shape"] == list(nsd.GRID)
    assert dataset.attributes["space"] == space


@pytest.mark.parametrize(("space", "form"), nsd.FORMS[:3])
def test_small_memory_gives_the_same(tree, space, form, monkeypatch):
    nsd.write_space(tree, space, form)
    with h5py.File(prepare(tree, space=space)) as file:
        whole = file["subjects/subj01/betas"][:]
    monkeypatch.setattr(store, "GROUP_BYTES", 4 * 7 * 5)  # five voxels of the longest session
    with h5py.File(prepare(tree, "blocks.h5", space=space)) as file:
        np.testing.assert_array_equal(file["subjects/subj01/betas"][:], whole)


def test_integer_betas_are_divided_by_300_and_floats_are_not(tree):
    """A z-score hides a factor, so the readers themselves are asked."""
    from brainit_clusters.data.nsd.spaces import SPACES

    for space, form in nsd.FORMS:
        nsd.write_space(tree, space, form)
        files = SPACES[space].beta_files(tree.folder(1, space), "betas_session02")
        shape = (10, 10) if "surf" in space or space == "fsaverage" else nsd.GRID
        chosen = np.array([0, 3, 12]) if len(shape) == 2 else np.sort(nsd.CELLS[[0, 3, 12]])
        found = SPACES[space].read_betas(files, shape, chosen, 6)
        both = np.concatenate([tree.betas[1, "lh"], tree.betas[1, "rh"]])[[0, 3, 12]]
        if len(shape) == 3:
            both = both[np.argsort(nsd.CELLS[[0, 3, 12]])]
        np.testing.assert_allclose(found, both[:, nsd.SESSIONS == 2].T, rtol=1e-6)


def test_voxels_outside_the_field_of_view_are_counted(tree):
    tree.betas[2, "lh"][3, nsd.SESSIONS == 2] = 0
    nsd.write_space(tree, "func1pt8mm", "hdf5")
    data, _ = read(tree, space="func1pt8mm")
    dropped = data.attributes["dropped_vertices"]
    assert dropped == {"nan": 0, "outside": 1, "constant": 0, "no_ncsnr": 0}
    assert list(data.attributes["unusable_by_session"].values()) == [1]
    assert "session02" in next(iter(data.attributes["unusable_by_session"]))
    assert 3 not in column_of(data, "func1pt8mm")


def test_trials_are_kept(tree):
    data, _ = read(tree, repeats="trials")
    mean, _ = read(tree, name="mean.h5")
    assert data.trial.tolist() == list(range(18))
    np.testing.assert_array_equal(data.image_id, tree.ids[1, tree.order - 1] - 1)
    np.testing.assert_array_equal(data.repeats, 1)
    for row, image in enumerate(mean.image_id):
        shown = data.image_id == image
        np.testing.assert_allclose(data.betas[shown].mean(0), mean.betas[row], atol=2 * HALF)
        assert set(data.split[shown]) == {mean.split[row]}
    masked = np.flatnonzero(nsd.MASK == 1)
    snr = np.concatenate([tree.ncsnr[2, side][masked] for side in ("lh", "rh")]).astype(float)
    np.testing.assert_allclose(data.noise_ceiling, snr**2 / (snr**2 + 1), rtol=1e-6)


def test_sessions_are_chosen(tree):
    data, _ = read(tree, sessions=(1, 3), repeats="trials")
    assert data.trial.tolist() == [*range(5), *range(11, 18)]
    assert data.attributes["sessions"] == [1, 3]
    np.testing.assert_array_equal(data.image_id, (tree.ids[1, tree.order - 1] - 1)[data.trial])
    assert len(read(tree, sessions="37")[0].image_id) == 6
    with pytest.raises(ValueError, match=r"subj01.*responses.tsv: no trial of session 4"):
        prepare(tree, sessions=(4,))


@pytest.mark.parametrize(
    ("mask", "vertices"),
    [
        ("streams", [1, 2, 3, 4, 5, 6, 7, 9]),
        ("streams:ventral", [5, 6, 7]),
        ("streams:ventral+early", [1, 2, 5, 6, 7]),
        ("floc-faces", [2, 3]),
        ("{root}/own/?h.{subject}.mgz", [0, 9]),
    ],
)
def test_masks_by_name(tree, mask, vertices):
    own = np.isin(np.arange(10), [0, 9]).astype(np.float32)
    for side in ("lh", "rh"):
        nsd.write_mgh(tree.root / f"own/{side}.subj02.mgz", own)
    data, dataset = read(tree, mask=mask.replace("{root}", str(tree.root)), subjects=(2,))
    np.testing.assert_array_equal(data.vertex, vertices * 2)
    used = [name for name in dataset.attributes["input_hashes"] if name.endswith(".mgz")]
    assert any(
        mask.split(":")[0].split("?h.")[-1].replace("{subject}", "subj02") in n for n in used
    )


def test_algonauts_mask_adds_a_second_file_where_it_is_there(tree):
    assert read(tree, mask="algonauts-2023")[0].n_voxels == 12
    for side in ("lh", "rh"):
        path = tree.root / f"nsddata/freesurfer/fsaverage/label/{side}.nsdgeneralRSC.mgz"
        nsd.write_mgh(path, np.eye(10, dtype=np.float32)[7])
    assert read(tree, name="more.h5", mask="algonauts-2023")[0].n_voxels == 14
    with pytest.raises(ValueError, match="'algonauts-2023' is one of fsaverage, not of func1mm"):
        prepare(tree, space="func1mm", mask="algonauts-2023")


def test_unknown_labels_are_named(tree):
    with pytest.raises(ValueError, match=r"streams.mgz.ctab: no label 'V1v', expected one of"):
        prepare(tree, mask="streams:V1v")


def test_estimates_are_no_atlas(tree):
    """Real label folders hold pRF maps besides atlases: fractions and NaN are no labels."""
    for side in ("lh", "rh"):
        path = tree.root / f"nsddata/freesurfer/fsaverage/label/{side}.prfangle.mgz"
        nsd.write_mgh(path, np.linspace(0, 1, 10, dtype=np.float32))
    assert "prfangle" not in read(tree)[0].roi


def test_named_test_sets_are_derived():
    """Forty sessions of four trials, 8 subjects; image k is first seen when its trial comes."""
    order = np.concatenate([np.arange(40), np.arange(40), np.arange(40), np.arange(40, 80)])
    order = np.random.default_rng(0).permutation(order)
    images = np.arange(80)[None].repeat(3, 0)
    images[:, 50:] += np.arange(3)[:, None] * 100
    shared, held = np.arange(50), [160, 120, 160]
    got = {
        name: set(named_test_set(name, order, images, shared, held, 148).tolist())
        for name in ("shared1000", "shared907", "shared515")
    }
    assert got["shared1000"] == set(range(50))
    for early in (148, *range(20, 40)):  # in the first trials nearly each one adds an image
        found = named_test_set("shared982", order, images, shared, held, early)
        assert set(found.tolist()) == {k for k in range(50) if k in order[:early]}
    assert got["shared907"] == {k for k in range(50) if k in order[:120]}
    assert got["shared515"] == {k for k in range(50) if (order[:120] == k).sum() == 3}
    assert len(got["shared515"]) < len(got["shared907"]) < len(got["shared1000"])


def test_shared_images_outside_the_test_set_are_left_out(tree):
    """Subject 2 has one session only, in which image 3 was not seen (2 of 5 trials are shared)."""
    text = tree.responses(2).read_text().splitlines()
    tree.responses(2).write_text("\n".join(text[:4]) + "\n")  # trials: 3, 1, 4
    for side in ("lh", "rh"):
        nsd.write_mgh(tree.beta_file(2, side, 1), tree.betas[2, side][:, :3])
    full, _ = read(tree, "subj01", name="full.h5")
    data, dataset = read(tree, "subj01", test_set="shared907")
    assert dataset.attributes["test_set"] == "shared1"
    assert dataset.attributes["test_set_asked"] == "shared907"
    assert data.image_id[data.rows("test")].tolist() == [2]
    assert 7 not in data.image_id
    assert 7 in full.image_id
    assert data.attributes["images_left_out"] == 1
    np.testing.assert_array_equal(data.betas, full.betas[full.image_id != 7])
    for split in ("train", "val"):
        assert data.image_id[data.rows(split)].tolist() == full.image_id[full.rows(split)].tolist()


def write_stim_info(tree, **change):
    path = tree.root / "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
    lines = [",cocoId,cocoSplit,cropBox,loss,nsdId,flagged,BOLD5000,shared1000"]
    for row in range(12):
        cells = {
            "cocoId": 500 - row, "cocoSplit": "val2017", "cropBox": '"(0, 0, 0.125, 0.25)"',
            "loss": 0.1, "nsdId": row, "flagged": False, "BOLD5000": False,
            "shared1000": row in (2, 7),
        }  # fmt: skip
        lines.append(",".join(map(str, [row, *((cells | change) if row == 3 else cells).values()])))
    path.write_text("\n".join(lines) + "\n")


def test_coco_ids_go_with_the_images(tree):
    write_stim_info(tree)
    _, dataset = read(tree)
    np.testing.assert_array_equal(dataset.coco_ids, 500 - dataset.image_ids)
    (tree.root / "nsddata/experiments/nsd/nsd_stim_info_merged.csv").unlink()
    assert read(tree)[1].coco_ids is None


@pytest.mark.parametrize(
    "change",
    [{"nsdId": 4}, {"shared1000": True}, {"cropBox": '"(0.5, 0.5, 0, 0)"'}, {"loss": 7},
     {"cocoId": -1}],
)  # fmt: skip
def test_wrong_image_tables_are_named(tree, change):
    write_stim_info(tree, **change)
    with pytest.raises(ValueError, match=rf"merged.csv: row 3: {next(iter(change))} is"):
        prepare(tree)


def test_a_table_that_ends_before_the_images_do_is_named(tree):
    write_stim_info(tree)
    path = tree.root / "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:9]))  # rows 0 to 7
    with pytest.raises(ValueError, match=r"merged.csv: 8 rows, the design has nsdId \d+"):
        prepare(tree)


def test_a_written_subject_reads_back_whole(tree):
    data, _ = read(tree, repeats="trials")
    assert {f.name for f in fields(data) if getattr(data, f.name) is None} == {"ijk", "affine"}
