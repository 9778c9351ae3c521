"""All trials of a subject are never in memory together, whatever their number."""

from __future__ import annotations

import tracemalloc

import h5py
import numpy as np
import pytest

from brainit_clusters.data import rows
from brainit_clusters.data.dataset import write_subject
from brainit_clusters.data.places import Places
from brainit_clusters.data.sessions import Session
from brainit_clusters.data.subject import Recording, subject_data

N_SESSIONS, N_TRIALS, N_VOXELS, N_IMAGES = 20, 40, 1500, 400
SESSION_BYTES = 4 * N_TRIALS * N_VOXELS


@pytest.mark.parametrize("repeats", ["average", "trials"])
def test_peak_memory_is_that_of_a_few_sessions(tmp_path, monkeypatch, repeats):
    """A float64 copy of all trials would be 40 sessions' worth, a float32 mean an image 10."""
    monkeypatch.setattr(rows, "_ROW_BYTES", SESSION_BYTES)

    def session(number):
        def read(columns):
            rng = np.random.default_rng(number)
            return rng.standard_normal((N_TRIALS, N_VOXELS), np.float32)[:, columns]

        return Session(f"session {number}", number * N_TRIALS + np.arange(N_TRIALS), read)

    image_id = np.random.default_rng(0).permutation(
        np.resize(np.arange(N_IMAGES), N_SESSIONS * N_TRIALS)
    )
    sessions = [session(number) for number in range(N_SESSIONS)]
    recording = Recording("subj01", sessions, image_id, Places.unknown(N_VOXELS))
    split = np.full(N_IMAGES, "train")
    tracemalloc.start()
    try:
        data = subject_data(recording, split, "published", repeats, tmp_path / "parts")
        with h5py.File(tmp_path / "subject.h5", "w") as file:
            write_subject(file.create_group("subj01"), data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # One session, its z-scores' float64 intermediates (a session again), rows and their float16.
    assert peak < 6 * SESSION_BYTES
    with h5py.File(tmp_path / "subject.h5") as file:
        n_rows = N_IMAGES if repeats == "average" else N_SESSIONS * N_TRIALS
        assert file["subj01/betas"].shape == (n_rows, N_VOXELS)
