"""The NSD reader against a tree written byte by byte and a plain fp64 computation."""

from __future__ import annotations

import logging

import brainit_clusters_nsd_files as nsd
import h5py
import numpy as np
import pytest
from PIL import Image

from brainit_clusters import BrainDataset, NSDConfig, noise_ceiling, prepare_nsd
from brainit_clusters.data.images import resize
from brainit_clusters.data.split import split_images

MASKED = np.flatnonzero(nsd.MASK == 1)
# float16 keeps 11 bits: relative rounding 2^-11, on z-scores up to 4; float32 errors are far less.
HALF = 4 * 2.0**-11


def prepare(tree, **settings):
    settings = {"image_size": 16, "validation_fraction": 0.25} | settings
    return prepare_nsd(tree.root, tree.root / "dataset.h5", NSDConfig(**settings), progress=False)


def expected_betas(tree, subject, vertices, used):
    """Plain loops in float64: z-score every vertex in every session, average the repeats."""
    shown = tree.ids[subject - 1, tree.order - 1] - 1
    result = np.zeros((6, sum(map(len, vertices))))
    columns = [
        (side, vertex)
        for side, group in zip(("lh", "rh"), vertices, strict=True)
        for vertex in group
    ]
    for column, (side, vertex) in enumerate(columns):
        values = tree.betas[subject, side][vertex].astype(float)
        for session in (1, 2, 3):
            now = session == nsd.SESSIONS
            sample = values[now & used]
            values[now] = (values[now] - sample.mean()) / np.sqrt(
                np.mean((sample - sample.mean()) ** 2)
            )
        for row, image in enumerate(np.unique(shown)):
            result[row, column] = values[shown == image].mean()
    return result


@pytest.mark.parametrize("subject", [1, 2])
def test_betas_images_and_identity_of_voxels(tree, subject):
    with BrainDataset.open(prepare(tree)) as dataset:
        data = dataset.subject(f"subj{subject:02d}")
        images = dataset.images(data.image_id)
    assert data.image_id.tolist() == sorted(tree.ids[subject - 1] - 1)  # row of imgBrick, 0-based
    np.testing.assert_array_equal(images, tree.images[data.image_id])
    truth = expected_betas(tree, subject, (MASKED, MASKED), np.ones(18, bool))
    np.testing.assert_allclose(data.betas, truth, atol=HALF)
    np.testing.assert_array_equal(data.vertex, np.tile(MASKED, 2))
    np.testing.assert_array_equal(data.hemisphere, np.repeat([0, 1], len(MASKED)))
    np.testing.assert_array_equal(data.repeats, 3)
    snr = np.concatenate([tree.ncsnr[subject, side][MASKED] for side in ("lh", "rh")]).astype(float)
    np.testing.assert_allclose(data.noise_ceiling, snr**2 / (snr**2 + 1 / 3), rtol=1e-6)


def test_leak_free_uses_training_trials_alone(tree):
    with BrainDataset.open(prepare(tree, normalisation="leak-free")) as dataset:
        data = dataset.subject("subj02")
        assert dataset.attributes["normalisation"] == "leak-free"
    shown = tree.ids[1, tree.order - 1] - 1
    train = np.isin(shown, data.image_id[data.rows("train")])
    truth = expected_betas(tree, 2, (MASKED, MASKED), train)
    np.testing.assert_allclose(data.betas, truth, atol=2 * HALF)


def test_mask_leaves_out_minus_one(tree):
    """nsdgeneral codes -1, 0, 1; `!= -1` and `!= 0` both take too many."""
    with BrainDataset.open(prepare(tree)) as dataset:
        assert set(dataset.subject("subj01").vertex) == set(MASKED)


def test_shared_images_are_the_test_set_and_validation_is_seeded(tree):
    with BrainDataset.open(prepare(tree)) as dataset:
        data = [dataset.subject(name) for name in dataset.subjects]
        assert dataset.attributes["test_set"] == "shared2"
    for subject in data:
        test = subject.image_id[subject.rows("test")]
        assert test.tolist() == [2, 7]  # sharedix 3 and 8 are 1-based
        assert len(subject.rows("val")) == 1
        assert len(subject.rows("train")) == 3
    ids = np.arange(100)
    splits = [split_images(ids, ids[:10], 0.3, (0, seed)) for seed in (1, 1, 2)]
    assert (splits[0] == splits[1]).all()
    assert (splits[0] != splits[2]).any()
    assert np.unique(splits[0], return_counts=True)[1].tolist() == [10, 63, 27]


def test_unusable_vertices_are_dropped_and_counted(tree, caplog):
    tree.betas[2, "lh"][4, 7] = np.nan
    tree.betas[2, "rh"][5, nsd.SESSIONS == 3] = 1.5
    tree.ncsnr[2, "rh"][2] = np.nan
    tree.betas[2, "rh"][8] = np.nan  # outside the mask: nobody's business
    tree.write_betas()
    nsd.write_mgh(tree.beta_file(2, "rh", 1).with_name("rh.ncsnr.mgh"), tree.ncsnr[2, "rh"])
    with caplog.at_level(logging.INFO), BrainDataset.open(prepare(tree)) as dataset:
        data = dataset.subject("subj02")
        assert dataset.subject("subj01").n_voxels == 2 * len(MASKED)
    left, right = np.setdiff1d(MASKED, [4]), np.setdiff1d(MASKED, [5, 2])
    assert data.vertex.tolist() == [*left, *right]
    assert data.attributes["dropped_vertices"] == {
        "nan": 1,
        "outside": 0,
        "constant": 1,
        "no_ncsnr": 1,
    }
    truth = expected_betas(tree, 2, (left, right), np.ones(18, bool))
    np.testing.assert_allclose(data.betas, truth, atol=HALF)
    assert "'nan': 1" in caplog.text


def test_labels_come_from_their_own_file(tree):
    with BrainDataset.open(prepare(tree)) as dataset:
        data = dataset.subject("subj01")
    np.testing.assert_array_equal(data.roi["streams"], np.tile(nsd.STREAMS[MASKED], 2))
    np.testing.assert_array_equal(data.roi["floc-faces"], np.tile(nsd.FACES[MASKED], 2))
    assert data.roi_labels["streams"] == {0: "Unknown", 1: "early", 5: "ventral"}
    assert data.roi_labels["floc-faces"] == {}


def test_attributes_say_where_it_came_from(tree):
    with BrainDataset.open(prepare(tree, subjects=(2,))) as dataset:
        attributes = dataset.attributes
        assert dataset.subjects == ["subj02"]
        assert len(dataset.image_ids) == 6
    assert attributes["n_vertices_per_hemisphere"] == 10
    assert attributes["betas"] == nsd.BETAS
    hashed = attributes["input_hashes"]
    # design, responses, stimuli; betas; a mask, ncsnr and two more atlases a side, one colour table
    assert len(hashed) == 3 + 6 + 2 * 4 + 1
    before = dict(hashed)
    tree.betas[2, "lh"] += 1
    tree.write_betas()
    with BrainDataset.open(prepare(tree, subjects=(2,))) as dataset:
        after = dataset.attributes["input_hashes"]
    assert sum(before[name] != after[name] for name in before) == 3


@pytest.mark.parametrize("shift", [-1, 1])
def test_an_id_of_the_wrong_base_is_caught(tree, shift):
    nsd.write_responses(tree, 2, shift)
    with pytest.raises(ValueError, match=r"responses.tsv: trial 1: 73KID is \d+, the design says"):
        prepare(tree)


def test_a_subject_number_is_not_an_offset(tree):
    """Subject 1's table in subject 2's folder: the own images differ, and it says so itself."""
    tree.responses(2).write_text(tree.responses(1).read_text())
    with pytest.raises(ValueError, match="SUBJECT is 1, the design says 2"):
        prepare(tree)


def test_sessions_of_any_length_but_whole(tree):
    path = tree.beta_file(1, "rh", 2)
    nsd.write_mgh(path, tree.betas[1, "rh"][:, :5])
    with pytest.raises(ValueError, match=r"rh.betas_session02.mgh: shape .* expected .* 6\)"):
        prepare(tree)
    assert not (tree.root / "dataset.h5").exists()


def test_broken_and_missing_files_are_named(tree):
    path = tree.beta_file(1, "lh", 3)
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(ValueError, match=r"lh.betas_session03.mgh: .*cannot be read whole"):
        prepare(tree)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"lh.betas_session03.mgh: no such file"):
        prepare(tree)
    path.write_bytes(whole)
    with pytest.raises(FileNotFoundError, match=r"lh.V1.mgz"):
        prepare(tree, mask="V1")


def test_too_few_stimuli_are_noticed(tree):
    with h5py.File(tree.root / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5", "a") as file:
        del file["imgBrick"]
        file["imgBrick"] = tree.images[:11]
    with pytest.raises(ValueError, match="11 images, the design shows id 11"):
        prepare(tree)


@pytest.mark.parametrize(
    "wrong", [{"space": "func2mm"}, {"betas": "b3"}, {"normalisation": "none"}, {"test_set": "x"}]
)
def test_unknown_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        NSDConfig(**wrong)


def test_resize_is_pils_and_nothing_at_the_same_size():
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    assert resize(image, 20) is image
    assert resize(np.full_like(image, 77), 8).tolist() == np.full((8, 8, 3), 77).tolist()
    smaller = np.asarray(Image.fromarray(image).resize((8, 8), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(resize(image, 8), smaller)


def test_noise_ceiling_counts_the_repeats():
    snr = np.array([0.0, 0.5, 2.0])
    one, two, three = 3, 4, 5
    repeats = np.repeat([1, 2, 3], [one, two, three])
    mean_inverse = (one / 1 + two / 2 + three / 3) / (one + two + three)
    truth = snr**2 / (snr**2 + mean_inverse)
    # float32 result: relative rounding 2^-24
    np.testing.assert_allclose(noise_ceiling(snr, repeats), truth, rtol=2.0**-23)
    with pytest.raises(ValueError, match="ncsnr"):
        noise_ceiling([np.nan], [1])
    with pytest.raises(ValueError, match="repeats"):
        noise_ceiling([1.0], [0])
