"""Samples read by rows are those of a plain form that holds everything in memory, bit for bit."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from brainit.stages import samples as samples_module
from brainit.stages.samples import Draw, Samples, row_variance
from brainit_clusters.data.dataset import BrainDataset, SubjectData, write_dataset
from brainit_clusters.data.external import ExternalResponses, write_external
from brainit_clusters.data.h5file import StoredRows

VOXELS = {"subj01": 37, "subj02": 53}
N_IMAGES, N_EXTERNAL, SEED = 90, 50, 3


def subject_data(name: str, rng: np.random.Generator) -> SubjectData:
    n_rows, n_voxels = 60, VOXELS[name]
    return SubjectData(
        name=name,
        betas=rng.standard_normal((n_rows, n_voxels), np.float32),
        image_id=np.sort(rng.choice(np.arange(1000, 1000 + N_IMAGES), n_rows, replace=False)),
        repeats=np.ones(n_rows, np.int16),
        split=rng.choice(["train", "val", "test"], n_rows, p=[0.7, 0.1, 0.2]),
        vertex=np.arange(n_voxels, dtype=np.int32),
        hemisphere=np.zeros(n_voxels, np.uint8),
        noise_ceiling=np.ones(n_voxels, np.float32),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, rng = tmp_path_factory.mktemp("run"), np.random.default_rng(0)
    images = rng.integers(0, 256, (N_IMAGES, 6, 6, 3), dtype=np.uint8)
    subjects = [subject_data(name, rng) for name in VOXELS]
    write_dataset(folder / "dataset.h5", images, np.arange(1000, 1000 + N_IMAGES), subjects, {})
    pictures = rng.integers(0, 256, (N_EXTERNAL, 6, 6, 3), dtype=np.uint8)
    responses = {
        name: (0.5 * rng.standard_normal((N_EXTERNAL, n))).astype(np.float16)
        for name, n in VOXELS.items()
    }
    write_external(folder / "external.h5", pictures, responses)
    return SimpleNamespace(
        output=lambda stage, name: folder / f"{name}.h5", profile=SimpleNamespace(seed=SEED)
    )


class InMemory:
    """All that there is, and a batch as plainly as it can be said."""

    def __init__(self, run: Any) -> None:
        with BrainDataset.open(run.output("prepare", "dataset")) as dataset:
            self.subjects = {name: dataset.subject(name) for name in dataset.subjects}
            shown = [s.image_id[s.split != "test"] for s in self.subjects.values()]
            self.ids = np.unique(np.concatenate(shown))
            real = dataset.images(self.ids)
        with ExternalResponses.open(run.output("external", "external")) as external:
            self.predicted = {name: external.responses(name) for name in VOXELS}
            self.images = np.concatenate([real, external.images()])
        self.noise = {}
        for name, subject in self.subjects.items():
            measured = subject.betas[subject.split == "train"].var(0)
            gap = measured - self.predicted[name].astype(np.float32).var(0)
            self.noise[name] = np.sqrt(gap.clip(min=0))

    def load(self, draw: Draw) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        subject, predicted = self.subjects[draw.subject], self.predicted[draw.subject]
        is_external = [sample < 0 for sample in draw.samples]
        shape = (sum(is_external), subject.n_voxels)
        noise = iter(np.random.default_rng(draw.seed).standard_normal(shape, np.float32))
        activations, images = [], []
        for sample in draw.samples:
            if sample >= 0:
                activations.append(subject.betas[sample])
                images.append(np.searchsorted(self.ids, subject.image_id[sample]))
            else:
                quiet = predicted[-1 - sample].astype(np.float32)
                activations.append(quiet + self.noise[draw.subject] * next(noise))
                images.append(len(self.ids) - 1 - sample)
        return np.array(activations), np.array(images)

    def epoch(self, number: int, batch_size: int, external_per_real: float) -> list[Draw]:
        """As it was drawn before anything was read by rows."""
        rng, drawn = np.random.default_rng([SEED, number]), []
        n_real = sum(len(s.rows("train")) for s in self.subjects.values())
        chosen = rng.permutation(N_EXTERNAL)[: round(external_per_real * n_real)]
        owners = rng.integers(len(self.subjects), size=len(chosen))
        for index, (name, subject) in enumerate(self.subjects.items()):
            samples = np.concatenate([subject.rows("train"), -1 - chosen[owners == index]])
            rng.shuffle(samples)
            for part in np.array_split(samples, max(1, round(len(samples) / batch_size))):
                drawn.append(Draw(name, part, int(rng.integers(2**62))))
        return [drawn[i] for i in rng.permutation(len(drawn))]


@pytest.mark.parametrize("external_per_real", [0.0, 0.4])
def test_batches_are_those_of_the_plain_form(run: Any, external_per_real: float) -> None:
    samples, plain = Samples(run), InMemory(run)
    for number in range(3):
        draws = samples.epoch(number, 8, external_per_real)
        expected = plain.epoch(number, 8, external_per_real)
        for draw, wanted in zip(draws, expected, strict=True):
            assert (draw.subject, draw.seed) == (wanted.subject, wanted.seed)
            np.testing.assert_array_equal(draw.samples, wanted.samples)
            batch = samples.load(draw)
            activations, images = plain.load(draw)
            np.testing.assert_array_equal(batch.activations.numpy(), activations)
            np.testing.assert_array_equal(batch.images.numpy(), images)
            assert batch.activations.dtype == torch.float32
            rows = batch.images.numpy()
            np.testing.assert_array_equal(samples.images[rows], plain.images[rows])


def test_the_held_out_are_all_of_a_split_without_noise(run: Any) -> None:
    samples, plain = Samples(run), InMemory(run)
    batches = list(samples.held_out("val"))
    assert [batch.subject for batch in batches] == list(VOXELS)
    for batch in batches:
        subject = plain.subjects[batch.subject]
        rows = subject.split == "val"
        np.testing.assert_array_equal(batch.activations.numpy(), subject.betas[rows])
        np.testing.assert_array_equal(
            plain.images[batch.images],
            plain.images[np.searchsorted(plain.ids, subject.image_id[rows])],
        )


def test_trained_images_are_those_of_training_and_external_ones(run: Any) -> None:
    samples, plain = Samples(run), InMemory(run)
    shown = {i for s in plain.subjects.values() for i in s.image_id[s.split == "train"]}
    n_real = len(plain.ids)
    expected = [i for i, name in enumerate(plain.ids) if name in shown]
    assert samples.trained_images().tolist() == expected + list(range(n_real, n_real + N_EXTERNAL))


@pytest.mark.parametrize(
    ("external_per_real", "times"), [(0.4, {0, 1}), (float("inf"), {1}), (3.0, {4, 5})]
)
def test_external_images_come_evenly_and_at_the_stated_rate(
    run: Any, external_per_real: float, times: set[int]
) -> None:
    """Brain-IT: the two sets one after the other, or f - 1 external samples for each real one."""
    samples = Samples(run)
    n_real = sum(len(s.rows("train")) for s in samples.subjects.values())
    drawn = np.concatenate([d.samples for d in samples.epoch(1, 8, external_per_real)])
    counts = Counter((-1 - drawn[drawn < 0]).tolist())
    wanted = N_EXTERNAL if np.isinf(external_per_real) else round(external_per_real * n_real)
    assert counts.total() == wanted
    assert {counts[image] for image in range(N_EXTERNAL)} == times
    assert (drawn >= 0).sum() == n_real


def test_each_external_image_is_seen_by_a_random_subject(run: Any) -> None:
    samples, owners = Samples(run), Counter[str]()
    for number in range(20):
        for draw in samples.epoch(number, 8, float("inf")):
            owners[draw.subject] += int((draw.samples < 0).sum())
    # 1,000 fair choices: five standard deviations of 16 about the half.
    assert abs(owners["subj01"] - 500) < 80


@pytest.mark.parametrize("n_columns", [2, 3, 64, 1001])
def test_variance_by_parts_is_numpys_bit_for_bit(tmp_path: Path, n_columns: int) -> None:
    values = np.random.default_rng(n_columns).normal(0.3, 1, (1100, n_columns)).astype(np.float16)
    with h5py.File(tmp_path / "values.h5", "w") as file:
        file["values"] = values
        rows = np.flatnonzero(np.random.default_rng(0).random(1100) < 0.9)
        found = row_variance(StoredRows(file["values"]), rows)
    np.testing.assert_array_equal(found, values[rows].astype(np.float32).var(0))


def test_of_many_external_images_some_tell_the_variance(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples_module, "STATISTICS_FROM", 10)
    samples, plain = Samples(run), InMemory(run)
    for name, subject in plain.subjects.items():
        some = plain.predicted[name][[0, 5, 10, 16, 21, 27, 32, 38, 43, 49]].astype(np.float32)
        gap = subject.betas[subject.split == "train"].var(0) - some.var(0)
        np.testing.assert_array_equal(samples.noise[name], np.sqrt(gap.clip(min=0)))
