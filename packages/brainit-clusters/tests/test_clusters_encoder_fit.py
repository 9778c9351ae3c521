# ruff: noqa: E402
"""Fitting the encoder in a small world, and adding a subject to it."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sklearn.metrics import adjusted_rand_score

from brainit_clusters import BrainDataset, fit_clusters
from brainit_clusters.encoder import (
    BrainEncoder,
    EncoderConfig,
    FitConfig,
    encoder_loss,
    fit_encoder,
    fit_subject,
    predict_responses,
    validate_encoder,
    voxel_correlation,
)
from brainit_clusters.encoder.task import EncoderTask, shifted

SIZES = EncoderConfig(dim=8, channels=8, taps=(1, 3), rank=2, alpha=0.5, dropout=0.1)
HOW = FitConfig(epochs=8, learning_rate=1e-2, batch_size=8, voxels_per_image=30, max_shift=0)


def fresh(toy):
    torch.manual_seed(0)
    return BrainEncoder(SIZES, toy.backbone())


def embeddings(encoder, names):
    return {name: encoder.voxel_embedding(name).detach().numpy() for name in names}


@pytest.fixture(scope="module")
def world(toy, tmp_path_factory):
    """Dataset of three subjects, kinds of their voxels, and an encoder of the first two."""
    folder = tmp_path_factory.mktemp("world")
    path, truth = toy.write_world(folder / "dataset.h5", n_subjects=3)
    encoder = fresh(toy)
    two, _ = toy.write_world(folder / "two.h5", n_subjects=2)
    with BrainDataset.open(two) as dataset:
        history = fit_encoder(encoder, dataset, folder / "fit", HOW)
    return path, truth, encoder, history


def test_fit_learns_and_keeps_the_best_epoch(world):
    path, _, encoder, history = world
    scores = [figures["score"] for figures in history]
    assert [figures["epoch"] for figures in history] == list(range(1, 9))
    # The noise ceiling is 0.8: correlations of sqrt(0.8) = 0.89 are the most there is.
    assert max(scores) > 0.6
    with BrainDataset.open(path) as dataset:
        found = validate_encoder(encoder, dataset, "val", ["subj01", "subj02"])
    upper = [np.percentile(one.correlation, 75) for one in found.values()]
    assert np.mean(upper) == pytest.approx(max(scores), abs=1e-6)
    for one in found.values():
        np.testing.assert_allclose(one.fraction, one.correlation / np.sqrt(0.8), rtol=1e-6)


def test_left_out_subject_agrees_with_the_joint_fit(world, toy, tmp_path):
    path, truth, encoder, _ = world
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    joint = fresh(toy)
    with BrainDataset.open(path) as dataset:
        fit_subject(encoder, dataset, "subj03", tmp_path / "one", HOW)
        fit_encoder(joint, dataset, tmp_path / "all", HOW)
    for name, value in before.items():
        assert torch.equal(value, encoder.state_dict()[name]), name
    assert not encoder.backbone.mean.requires_grad
    assert all(v.requires_grad for n, v in encoder.named_parameters() if "backbone." not in n)
    two, new = embeddings(encoder, ["subj01", "subj02"]), embeddings(encoder, ["subj03"])["subj03"]
    labels, _ = fit_clusters(two, 4, seed=0).assign(new, two)
    together = fit_clusters(embeddings(joint, joint.subjects), 4, seed=0)
    with_it = together.labels[80:]
    agreed = adjusted_rand_score(labels, with_it)
    rng = np.random.default_rng(0)
    chance = [adjusted_rand_score(rng.permutation(labels), with_it) for _ in range(100)]
    assert agreed > 0.6 > max(chance) + 0.2
    assert adjusted_rand_score(labels, truth["subj03"]) > 0.6


def test_an_interrupted_fit_ends_in_the_same_numbers(toy, tmp_path, monkeypatch):
    path, _ = toy.write_world(tmp_path / "dataset.h5", n_subjects=1, n_voxels=8, n_images=24)
    how = {"learning_rate": 1e-2, "batch_size": 8, "patience": 0}
    whole, resumed = fresh(toy), fresh(toy)
    with BrainDataset.open(path) as dataset:
        truth = fit_encoder(whole, dataset, tmp_path / "whole", FitConfig(epochs=4, **how))
        part = fit_encoder(resumed, dataset, tmp_path / "part", FitConfig(epochs=2, **how))
        assert part == truth[:2]
        other = fresh(toy)  # nothing but the folder is left of the first call
        found = fit_encoder(other, dataset, tmp_path / "part", FitConfig(epochs=4, **how))
        assert found == truth
        for name, value in whole.state_dict().items():
            if not name.startswith("backbone."):
                assert torch.equal(value, other.state_dict()[name]), name
        with pytest.raises(ValueError, match="other data or settings"):
            fit_encoder(fresh(toy), dataset, tmp_path / "part", FitConfig(seed=1, **how))
        # A fit that ended is read back without training.
        monkeypatch.setattr(EncoderTask, "loss", None)
        fit_encoder(fresh(toy), dataset, tmp_path / "part", FitConfig(epochs=4, **how))
    assert not list(tmp_path.glob("*/.*"))


def test_learning_rate_falls_when_the_score_stalls(toy, tmp_path, monkeypatch):
    path, _ = toy.write_world(tmp_path / "dataset.h5", n_subjects=1, n_voxels=8, n_images=24)
    scores = iter([0.1, 0.3, 0.3, 0.2, 0.3, 0.4, 0.1])
    monkeypatch.setattr(
        EncoderTask, "validate", lambda self: {"score": next(scores), "median_correlation": 0.0}
    )
    with BrainDataset.open(path) as dataset:
        history = fit_encoder(
            fresh(toy), dataset, tmp_path / "fit", FitConfig(epochs=7, patience=2, batch_size=24)
        )
    rates = [figures["learning_rate"] for figures in history]
    # Epochs 3, 4, 5 bring nothing: more than two, so from epoch 6 on it is a tenth.
    np.testing.assert_allclose(rates, [1e-3] * 5 + [1e-4] * 2)


def test_the_best_epoch_is_kept_though_later_ones_are_worse(toy, tmp_path, monkeypatch):
    path, _ = toy.write_world(tmp_path / "dataset.h5", n_subjects=1, n_voxels=8, n_images=24)
    scores = iter([0.1, 0.3, 0.3, 0.2, 0.1, 0.3])  # four epochs, then two
    monkeypatch.setattr(
        EncoderTask, "validate", lambda self: {"score": next(scores), "median_correlation": 0.0}
    )
    four, two = fresh(toy), fresh(toy)
    with BrainDataset.open(path) as dataset:
        fit_encoder(four, dataset, tmp_path / "four", FitConfig(epochs=4, batch_size=8))
        fit_encoder(two, dataset, tmp_path / "two", FitConfig(epochs=2, batch_size=8))
    for name, value in two.state_dict().items():
        if not name.startswith("backbone."):
            assert torch.equal(value, four.state_dict()[name]), name


def test_batches_are_the_seeds_alone_and_cover_every_training_image(toy, tmp_path):
    path, _ = toy.write_world(tmp_path / "dataset.h5", n_subjects=2, n_voxels=8, n_images=24)
    encoder = fresh(toy)
    with BrainDataset.open(path) as dataset:
        with pytest.raises(ValueError, match="no subject 'subj01'"):
            EncoderTask(encoder, dataset)
        encoder.add_subject("subj01", 8)
        encoder.add_subject("subj02", 9)
        with pytest.raises(ValueError, match="subj02 has 8 voxels, the encoder 9"):
            EncoderTask(encoder, dataset)
        one, same, other = (
            EncoderTask(
                encoder, dataset, ["subj01"], batch_size=6, voxels_per_image=5, seed=seed
            ).epoch(3)
            for seed in (0, 0, 1)
        )
        rows = dataset.subject("subj01").rows("train")
    for a, b in zip(one, same, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a[1:], b[1:], strict=True))
    assert not all(torch.equal(a.rows, b.rows) for a, b in zip(one, other, strict=True))
    assert sorted(torch.cat([batch.rows for batch in one]).tolist()) == rows.tolist()
    for batch in one:
        assert len(batch.voxels) == 5
        assert (batch.voxels.diff() > 0).all()
        assert batch.shifts.abs().max() <= 3


@torch.no_grad()
def test_loss_and_score_by_hand(toy, tmp_path):
    path, _ = toy.write_world(tmp_path / "dataset.h5", n_subjects=1, n_voxels=8, n_images=24)
    encoder = fresh(toy)
    encoder.add_subject("subj01", 8)
    with BrainDataset.open(path) as dataset:
        task = EncoderTask(encoder.eval(), dataset, max_shift=0)
        subject, images = dataset.subject("subj01"), dataset.images(dataset.image_ids)
    batch = task.epoch(0)[0]
    floats = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    truth = encoder_loss(
        encoder(floats[batch.rows], "subj01"), torch.from_numpy(subject.betas)[batch.rows]
    )
    torch.testing.assert_close(task.loss(task.load(batch)), truth)
    val = subject.rows("val")
    predicted = predict_responses(encoder, images[val], "subj01")
    correlation = voxel_correlation(predicted, subject.betas[val])
    assert task.validate() == {
        "score": pytest.approx(np.percentile(correlation, 75)),
        "median_correlation": pytest.approx(np.median(correlation)),
    }


def test_shift_repeats_the_border():
    images = torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5)
    moved = shifted(images, torch.tensor([[1, 0], [0, -2]]))
    assert torch.equal(moved[0, :, :3], images[0, :, 1:])
    assert torch.equal(moved[0, :, 3], images[0, :, 3])
    assert torch.equal(moved[1, :, :, 2:], images[1, :, :, :3])
    assert torch.equal(moved[1, :, :, 0], images[1, :, :, 0])


def test_ceilings_are_those_of_the_splits_repeats():
    from brainit_clusters.data.noise import noise_ceiling
    from brainit_clusters.encoder.validate import _ceiling_of

    ncsnr, repeats = np.array([0.0, 0.4, 2.0]), np.array([1, 2, 3, 3], np.int16)
    found = _ceiling_of(noise_ceiling(ncsnr, repeats), repeats, repeats[2:])
    np.testing.assert_allclose(found, noise_ceiling(ncsnr, [3, 3]), rtol=1e-6)
