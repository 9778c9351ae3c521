"""Rows read from their file: the right ones, in every thread and process that may have them."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import h5py
import numpy as np
import pytest

from brainit_clusters.data.dataset import BrainDataset, SubjectData, write_dataset
from brainit_clusters.data.h5file import StoredRows

VALUES = np.random.default_rng(0).normal(size=(300, 7)).astype(np.float16)
IMAGES = np.zeros((2, 4, 4, 3), np.uint8)
HELD = {}  # what a forked process finds


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "values.h5"
    with h5py.File(path, "w") as file:
        file["other"] = np.ones(1000)  # so that nothing begins where the file does
        file["whole"] = VALUES
        file["big_endian"] = VALUES.astype(">f4")
        file.create_dataset("chunks", data=VALUES, chunks=(3, 5), compression="gzip")
    with h5py.File(path) as file:
        yield file


@pytest.mark.parametrize("name", ["whole", "big_endian", "chunks"])
def test_rows_are_those_of_the_dataset(file, name):
    rows = StoredRows(file[name])
    assert (rows.shape, len(rows)) == (VALUES.shape, 300)
    for wanted in ([299, 3, 3, 0], [-1], np.array([], int), slice(5, 9), slice(None, None, -7)):
        np.testing.assert_array_equal(rows[wanted], VALUES[wanted])
    with pytest.raises(IndexError):
        rows[[300]]
    found = rows[2:4]
    found += 1  # a copy
    np.testing.assert_array_equal(rows[2:4], VALUES[2:4])


@pytest.mark.parametrize("name", ["whole", "chunks"])
def test_threads_read_what_one_reads(file, name):
    rows = StoredRows(file[name])
    wanted = np.random.default_rng(1).integers(0, 300, (200, 10))
    with ThreadPoolExecutor(4) as pool:
        for each, found in zip(wanted, pool.map(rows.__getitem__, wanted), strict=True):
            np.testing.assert_array_equal(found, VALUES[each])


def test_a_map_outlives_its_file(file):
    rows = StoredRows(file["whole"])
    file.close()
    np.testing.assert_array_equal(rows[[9]], VALUES[[9]])


def test_forked_processes_read_maps_and_refuse_the_rest(file):
    """HDF5 keeps its place in a file, which a forked process would share."""
    HELD.update({name: StoredRows(file[name]) for name in ("whole", "chunks")})
    wanted = np.random.default_rng(1).integers(0, 300, (4, 2000))
    with ProcessPoolExecutor(4, get_context("fork")) as workers:
        for each, found in zip(wanted, workers.map(_read_mapped, wanted), strict=True):
            np.testing.assert_array_equal(found, VALUES[each])
        with pytest.raises(RuntimeError, match="open it in each process that reads it"):
            workers.submit(_read_chunks).result()


def _read_mapped(rows):
    return np.concatenate([HELD["whole"][[row]] for row in rows])


def _read_chunks():
    return HELD["chunks"][[0]]


def test_an_inherited_dataset_is_refused(tmp_path):
    subject = SubjectData(
        name="subj01",
        betas=np.ones((2, 3), np.float32),
        image_id=np.arange(2),
        repeats=np.ones(2, np.int16),
        split=np.array(["train", "val"]),
        vertex=np.arange(3, dtype=np.int32),
        hemisphere=np.zeros(3, np.uint8),
        noise_ceiling=np.ones(3, np.float32),
    )
    path = write_dataset(tmp_path / "dataset.h5", IMAGES, np.arange(2), [subject], {})
    with BrainDataset.open(path) as dataset:
        HELD["dataset"] = dataset
        with (
            ProcessPoolExecutor(1, get_context("fork")) as worker,
            pytest.raises(RuntimeError, match=r"dataset\.h5: opened by another process"),
        ):
            worker.submit(_read_subject).result()
        assert dataset.subject("subj01").n_voxels == 3


def _read_subject():
    return HELD["dataset"].subject("subj01").n_voxels


def test_a_file_that_was_cut_is_refused(file):
    last = max((file[name] for name in ("whole", "big_endian")), key=lambda d: d.id.get_offset())
    os.truncate(file.filename, last.id.get_offset() + last.nbytes - 1)
    with pytest.raises(ValueError, match=r"values\.h5: cut short, /"):
        StoredRows(last)
