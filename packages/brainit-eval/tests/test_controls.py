"""Controls: brains, pictures, clusters, recovery, nearest neighbours and the overlap audit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brainit_eval.controls import (
    BRAIN_CONTROLS,
    beats,
    cluster_line,
    expected_two_way,
    grey_images,
    mean_brain,
    mean_images,
    nearest_images,
    noise_brain,
    recovery,
    shuffled_brains,
    within_clusters,
    wrong_subject,
)
from brainit_eval.controls.audit import audit_overlap, find_leaks, picture_hashes
from brainit_eval.controls.neighbours import Neighbours, nearest
from brainit_eval.metrics.identification import two_way
from brainit_eval.pictures.stream import thumbnails


def betas(n: int = 12, voxels: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1, 2, (n, voxels)).astype(np.float32)


def test_every_brain_control_says_what_it_tests() -> None:
    assert set(BRAIN_CONTROLS) == {"shuffled", "wrong_subject", "mean", "noise"}


def test_shuffled_brains_are_those_of_other_images() -> None:
    rows = betas()
    shuffled, source = shuffled_brains(rows, 3)
    assert sorted(source.tolist()) == list(range(12))
    assert (source != np.arange(12)).all()
    assert np.array_equal(shuffled, rows[source])
    assert np.array_equal(shuffled_brains(rows, 3)[0], shuffled)
    assert not np.array_equal(shuffled_brains(rows, 4)[0], shuffled)


def test_repeats_of_an_image_stay_together() -> None:
    ids = np.array([7, 5, 7, 9, 5, 9, 7, 5, 9])
    shuffled, source = shuffled_brains(betas(9), 0, ids)
    given = {image: set(ids[source[ids == image]].tolist()) for image in (5, 7, 9)}
    assert all(len(others) == 1 and image not in others for image, others in given.items())
    assert sorted(source.tolist()) == list(range(9))  # equal repeats: every row is used once
    assert shuffled.shape == (9, 5)


def test_wrong_subject_has_seen_the_same_images() -> None:
    ids = {"a": np.array([3, 1, 2]), "b": np.array([1, 2, 3, 4])}
    brains = {name: np.repeat(value[:, None], 2, 1).astype(float) for name, value in ids.items()}
    brains["b"] += 100
    swapped = wrong_subject({**brains, "b": brains["b"][:3]}, {**ids, "b": ids["b"][:3]})
    assert swapped["a"][:, 0].tolist() == [103, 101, 102]
    assert swapped["b"][:, 0].tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="a: has not seen image 4 of b"):
        wrong_subject(brains, ids)
    with pytest.raises(ValueError, match="common space"):
        wrong_subject({"a": betas(3, 5), "b": betas(3, 6)}, {"a": [1, 2, 3], "b": [1, 2, 3]})
    with pytest.raises(ValueError, match="two subjects or more"):
        wrong_subject({"a": betas(3)}, {"a": [1, 2, 3]})


def test_mean_brain_is_one_row() -> None:
    train = betas(30, seed=1)
    mean = mean_brain(betas(), train)
    assert mean.shape == (12, 5)
    assert mean.dtype == np.float32
    assert np.allclose(mean, train.mean(0, dtype=np.float64), rtol=0, atol=1e-6)


def test_noise_brain_has_mean_and_covariance_of_brains() -> None:
    train = betas(30, 3, seed=1).astype(np.float64) @ np.array([[1, 1, 0], [0, 1, 1], [0, 0, 0.1]])
    noise = noise_brain(np.zeros((40_000, 3)), 0, train)
    # Standard errors over 40,000 draws: sd / 200 of a mean, and 2 / 200 of variances, relatively.
    spread = train.std(0, ddof=1)
    assert np.abs((noise.mean(0) - train.mean(0)) / spread).max() < 5 / 200
    difference = (np.cov(noise.T) - np.cov(train.T)) / np.outer(spread, spread)
    assert np.abs(difference).max() < 5 * np.sqrt(2) / 200
    assert np.array_equal(noise_brain(betas(), 5), noise_brain(betas(), 5))
    assert not np.array_equal(noise_brain(betas(), 5), noise_brain(betas(), 6))


def test_bad_betas_are_refused() -> None:
    bad = betas()
    bad[4, 1] = np.nan
    with pytest.raises(ValueError, match="row 4 holds NaN"):
        shuffled_brains(bad, 0)
    with pytest.raises(ValueError, match=r"floating point \[n, voxels\]"):
        mean_brain(np.zeros((3, 2), dtype=int))
    with pytest.raises(ValueError, match="expected 5 voxels, got 4"):
        noise_brain(betas(), 0, betas(6, 4))
    with pytest.raises(ValueError, match="image_ids: expected 12 ids"):
        shuffled_brains(betas(), 0, [1, 2])


def test_pictures_of_no_brain() -> None:
    train = torch.rand(70, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(grey_images(train[:3])[:], torch.full((3, 3, 4, 6), 0.5))
    mean = mean_images(train, 5)
    assert mean.shape == (5, 3, 4, 6)
    assert torch.allclose(mean[4], train.mean(0), rtol=0, atol=1e-6)
    order = np.array([69, 0, 0])
    assert torch.equal(nearest_images(train, Neighbours(order, np.zeros(3)))[0:3], train[order])


def test_nearest_is_the_most_correlated_in_any_blocks(monkeypatch) -> None:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(20, 3, 7, generator=generator)
    train = torch.randn(50, 3, 7, generator=generator)
    train[40] = 2 * queries[3] + 5  # correlation ignores scale and mean
    table = np.corrcoef(queries.flatten(1).double(), train.flatten(1).double())[:20, 20:]
    for values in (16_000_000, 21 * 7):
        monkeypatch.setattr("brainit_eval.controls.neighbours._BUFFER", values)
        found = nearest(queries, train)
        assert np.array_equal(found.index, table.argmax(1))
        assert np.allclose(found.distance, 1 - table.max(1), rtol=0, atol=1e-6)
    assert found.index[3] == 40
    with pytest.raises(ValueError, match="train_features: row 7 is of one value"):
        nearest(queries, torch.cat([train[:7], torch.ones(1, 3, 7)]))
    with pytest.raises(ValueError, match=r"expected shape \[m, 3, 7\]"):
        nearest(queries, train[:, :2])


def test_formula_of_clusters_is_what_simulation_gives() -> None:
    """A decoder that wins between clusters with q and within by chance."""
    generator = np.random.default_rng(0)
    clusters, size, between = 8, 50, 0.9
    labels = np.repeat(np.arange(clusters), size)
    same = labels[:, None] == labels
    success = generator.random((400, 400)) < np.where(same, 0.5, between)
    np.fill_diagonal(success, False)
    reading = within_clusters(success, labels, n_bootstrap=200)
    # 159,600 comparisons: a standard error of 0.0009.
    overall = reading.detail["overall"]
    assert overall == pytest.approx(reading.detail["expected"], abs=0.003)
    # The image itself is no distractor, so 49 of 399 share its cluster, not 50 of 400.
    assert overall == pytest.approx(expected_two_way(clusters, between), abs=0.005)
    assert reading.detail["line"] == pytest.approx(1 - 49 / 399 / 2, abs=1e-12)
    assert reading.value == pytest.approx(0.5, abs=0.015)
    assert reading.detail["between"] == pytest.approx(between, abs=0.003)


def test_lines() -> None:
    assert cluster_line(40) == pytest.approx(0.9875)
    assert expected_two_way(1, 1.0) == 0.5
    assert expected_two_way(4, 0.5) == 0.5
    with pytest.raises(ValueError, match="1 cluster or more"):
        cluster_line(0)


def test_a_decoder_of_categories_alone_is_found_and_one_of_images_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = np.repeat(["a", "b", "c", "d", "e"], [20, 8, 30, 1, 11])
    kinds = torch.from_numpy(np.unique(labels, return_inverse=True)[1])
    centre = 3 * torch.randn(5, 40, generator=generator)[kinds]
    true = centre + torch.randn(70, 40, generator=generator)
    category_only = centre + torch.randn(70, 40, generator=generator)
    reading = within_clusters(two_way(category_only, true).success, labels, n_bootstrap=300)
    assert not reading.green
    detail = reading.detail
    assert detail["overall"] == pytest.approx(detail["line"], abs=0.02)  # far above chance
    assert detail["line"] > 0.8
    share = detail["same_share"]
    split = share * reading.value + (1 - share) * detail["between"]
    assert detail["overall"] == pytest.approx(split, abs=1e-12)
    assert detail["per_cluster"]["d"] == {"n": 1, "two_way": None}
    own = two_way(true + torch.randn(70, 40, generator=generator), true).success
    seen = within_clusters(own, labels, n_bootstrap=300)
    assert seen.green
    alone = two_way(true[:20], true[:20]).value
    assert alone == 1.0
    inside = own[:20, :20].sum() / (20 * 19)
    assert seen.detail["per_cluster"]["a"]["two_way"] == pytest.approx(inside, abs=1e-12)


def test_bad_labels_are_refused() -> None:
    success = np.zeros((4, 4), dtype=bool)
    with pytest.raises(ValueError, match="expected 4, one per image"):
        within_clusters(success, [1, 2])
    for labels in ([1, 1, 1, 1], [1, 2, 3, 4]):
        with pytest.raises(ValueError, match="2 clusters or more"):
            within_clusters(success, labels)


def test_beats_is_paired() -> None:
    generator = np.random.default_rng(0)
    hard = generator.normal(0, 1, 60)  # images differ far more than methods do
    own, other = hard + 0.1 + generator.normal(0, 0.05, 60), hard
    reading = beats(own, other, "pixcorr", "grey_image", n_bootstrap=200)
    assert reading.green
    assert reading.value == pytest.approx(0.1, abs=0.03)
    assert (reading.detail["method"], reading.detail["control"]) == (own.mean(), other.mean())
    assert not beats(other, own, "pixcorr", "grey_image", n_bootstrap=200).green
    assert beats(other, own, "lpips", "x", higher_is_better=False, n_bootstrap=200).green
    assert not beats(own, own, "pixcorr", "grey_image", n_bootstrap=200).green
    with pytest.raises(ValueError, match=r"pixcorr: expected \[60\], got \[59\]"):
        beats(own, other[:59], "pixcorr", "x")


def test_recovery_is_green_where_true_features_score_better() -> None:
    decoded = np.linspace(0.2, 0.4, 30)
    reading = recovery(decoded, decoded + 0.3, "pixcorr", n_bootstrap=50)
    assert reading.green
    assert reading.value == pytest.approx(0.3)
    assert reading.detail["method"] == pytest.approx(0.6)
    assert not recovery(decoded, decoded - 0.1, "ssim", n_bootstrap=50).green


def test_audit_finds_a_leak_by_each_kind_of_evidence() -> None:
    generator = torch.Generator().manual_seed(0)
    draw = torch.rand(30, 3, 40, 40, generator=generator)
    pictures = (torch.nn.functional.avg_pool2d(draw, 5, 1, 2) * 255).round() / 255
    train, test = pictures[:20].clone(), pictures[20:].clone()
    test[4] = train[11]  # the same pixels under another id
    test[6] = train[2] * 0.9 + 0.05 * torch.rand(3, 40, 40, generator=generator)
    test_ids, train_ids = np.arange(100, 110), np.arange(20)
    train_ids[15] = 101  # the same id
    near = nearest(thumbnails(test)["thumbnail"], thumbnails(train)["thumbnail"])
    leaks = find_leaks(
        test_ids,
        train_ids,
        test_hashes=picture_hashes((test * 255).round().byte()),
        train_hashes=picture_hashes(train),
        neighbours=near,
    )
    assert [(leak.test_id, leak.train_id, leak.found_by) for leak in leaks] == [
        (101, 101, "id"),
        (104, 11, "pixels"),
        (106, 2, "nearness"),
    ]
    assert 0 < leaks[2].distance < 0.05
    reading = audit_overlap(leaks, 10, near)
    assert not reading.green
    assert reading.value == 3
    assert reading.detail["leaks"][1]["found_by"] == "pixels"
    assert audit_overlap(find_leaks([1, 2], [3, 4]), 2).green
    with pytest.raises(ValueError, match="of both sets or of neither"):
        find_leaks([1], [2], test_hashes=["x"])
    with pytest.raises(ValueError, match="train_hashes: expected 1, got 2"):
        find_leaks([1], [2], test_hashes=["x"], train_hashes=["x", "y"])


def test_hashes_know_the_shape() -> None:
    flat = torch.zeros(2, 3, 2, 8)
    assert picture_hashes(flat)[0] != picture_hashes(flat.view(2, 3, 4, 4))[0]


def test_hashes_are_of_the_nearest_8_bits() -> None:
    pixels = torch.arange(2 * 3 * 40, dtype=torch.uint8).view(2, 3, 5, 8)
    for shift in (-0.4, 0.0, 0.4):
        floats = ((pixels.float() + shift) / 255).clamp(0, 1)
        assert picture_hashes(floats) == picture_hashes(pixels)
