"""Dataset and external files: what goes in comes out, and wrong input is named."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest

from brainit_clusters import (
    BrainDataset,
    ExternalResponses,
    SubjectData,
    write_dataset,
    write_external,
)


def subject_data(name="subj01", n_images=700, n_voxels=5, seed=0):
    rng = np.random.default_rng(seed)
    return SubjectData(
        name=name,
        betas=rng.normal(size=(n_images, n_voxels)).astype(np.float16).astype(np.float32),
        image_id=np.sort(rng.choice(1000, n_images, replace=False)),
        repeats=rng.integers(1, 4, n_images).astype(np.int16),
        split=rng.choice(["train", "val", "test"], n_images),
        vertex=np.arange(n_voxels, dtype=np.int32),
        hemisphere=np.zeros(n_voxels, np.uint8),
        noise_ceiling=rng.uniform(size=n_voxels).astype(np.float32),
        roi={"V1": np.arange(n_voxels, dtype=np.int32)},
        roi_labels={"V1": {1: "ventral", 2: "dorsal"}},
        attributes={"n_sessions": 3},
    )


@pytest.fixture
def written(tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (1000, 4, 4, 3), dtype=np.uint8)
    subjects = [subject_data(), subject_data("subj02", 20, 3, seed=1)]
    path = tmp_path / "dataset.h5"
    write_dataset(path, images, np.arange(1000), iter(subjects), {"source": "test", "n": 3})
    return path, images, subjects


def test_round_trip(written):
    path, images, subjects = written
    with BrainDataset.open(path) as dataset:
        assert dataset.subjects == ["subj01", "subj02"]
        assert dataset.image_size == 4
        assert dataset.attributes["source"] == "test"
        for truth in subjects:
            found = dataset.subject(truth.name)
            for name in ("betas", "image_id", "repeats", "split", "vertex", "hemisphere"):
                np.testing.assert_array_equal(getattr(found, name), getattr(truth, name))
            np.testing.assert_array_equal(found.noise_ceiling, truth.noise_ceiling)
            np.testing.assert_array_equal(found.roi["V1"], truth.roi["V1"])
            assert found.roi_labels == truth.roi_labels
            assert found.attributes == truth.attributes
            assert found.betas.dtype == np.float32
        order = [999, 3, 3, 512, 0, 255, 256]
        np.testing.assert_array_equal(dataset.images(order), images[order])
        with pytest.raises(ValueError, match="no image with id 1000"):
            dataset.images([4, 1000])
        with pytest.raises(ValueError, match="no subject 'subj03'"):
            dataset.subject("subj03")


def test_betas_left_in_the_file_are_the_same(written):
    path, images, subjects = written
    with BrainDataset.open(path) as dataset:
        left = dataset.subject("subj01", in_memory=False)
        np.testing.assert_array_equal(dataset.stored_images[[7, 5]], images[[7, 5]])
    assert left.betas.dtype == np.float16
    assert (left.n_voxels, left.betas.shape) == (5, subjects[0].betas.shape)
    # Read after the file was closed: they come from a map.
    np.testing.assert_array_equal(left.betas[[3, 699, 3]], subjects[0].betas[[3, 699, 3]])


def test_images_in_chunks_are_read_too(written, tmp_path):
    """As files had them before they could be mapped, and as other programs may rewrite them."""
    path, images, _ = written
    with h5py.File(path, "a") as file:
        del file["images"]
        file.create_dataset("images", data=images, chunks=(1, 4, 4, 3), compression="gzip")
    order = [999, 3, 3, 512, 0, 255, 256]
    with BrainDataset.open(path) as dataset:
        np.testing.assert_array_equal(dataset.images(order), images[order])


def test_rows_of_a_split():
    data = subject_data(n_images=3)
    data = replace(data, split=np.array(["val", "train", "val"]))
    assert data.rows("val").tolist() == [0, 2]
    with pytest.raises(ValueError, match="split is 'dev'"):
        data.rows("dev")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("vertex", np.zeros(4, np.int32), r"vertex has shape \(4,\), expected \(5,\)"),
        ("repeats", np.ones(1, np.int16), "repeats has shape"),
        ("split", np.array(["train", "dev", "val"]), "split holds"),
        ("image_id", np.array([3, 2, 1]), "must ascend"),
        ("roi", {"V1": np.zeros(2, np.int32)}, "roi/V1"),
    ],
)
def test_parts_that_do_not_fit_are_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        replace(subject_data(n_images=3), **{field: value})


def test_failed_writing_leaves_the_old_file(written):
    path, images, subjects = written
    before = path.read_bytes()
    bad = subject_data("subj03")
    bad.betas[0, 0] = np.nan
    with pytest.raises(ValueError, match="subj03: betas are not finite"):
        write_dataset(path, images, np.arange(1000), [subjects[0], bad], {})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        BrainDataset.open(tmp_path / "none.h5")
    text = tmp_path / "text.h5"
    text.write_text("hello")
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = 1
    for reader in (BrainDataset, ExternalResponses):
        for path in (text, other):
            with pytest.raises(ValueError, match=path.name):
                reader.open(path)


def test_external_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    responses = {name: rng.normal(size=(6, 3)).astype(np.float16) for name in ("b", "a")}
    write_external(tmp_path / "external.h5", images, responses)
    with ExternalResponses.open(tmp_path / "external.h5") as external:
        assert external.subjects == ["a", "b"]
        assert len(external) == 6
        np.testing.assert_array_equal(external.images([5, 1, 1]), images[[5, 1, 1]])
        np.testing.assert_array_equal(external.responses("b"), responses["b"])
        np.testing.assert_array_equal(external.responses("a", [2, 0]), responses["a"][[2, 0]])
        with pytest.raises(ValueError, match="no subject 'c'"):
            external.responses("c")
    with pytest.raises(ValueError, match="a: responses"):
        write_external(tmp_path / "x.h5", images, {"a": responses["a"][:5]})


def test_volumes_keep_their_place(tmp_path):
    ijk = np.arange(15, dtype=np.int32).reshape(5, 3)
    truth = replace(subject_data(n_images=3), ijk=ijk, affine=np.diag([2.0, 2, 2, 1]))
    images = np.zeros((3, 4, 4, 3), np.uint8)
    path = write_dataset(tmp_path / "d.h5", images, truth.image_id, [truth], {})
    with BrainDataset.open(path) as dataset:
        found = dataset.subject("subj01")
    np.testing.assert_array_equal(found.ijk, ijk)
    np.testing.assert_array_equal(found.affine, truth.affine)
    with pytest.raises(ValueError, match="go together"):
        replace(truth, affine=None)
    with pytest.raises(ValueError, match=r"ijk has shape \(4, 3\), expected \(5, 3\)"):
        replace(truth, ijk=ijk[:4])
