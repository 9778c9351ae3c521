from __future__ import annotations

import numpy as np
import pytest

from brainit_eval.statistics import (
    averages,
    brain_correlation,
    consistency,
    effect_of_repeats,
    ncsnr,
    noise_ceiling,
    spearman_brown,
    split_half,
)


def responses(signal: float, noise: float, images: int = 400, repeats: int = 3, voxels: int = 6):
    generator = np.random.default_rng(0)
    true = signal * generator.normal(size=(images, voxels))
    trials = true[:, None] + noise * generator.normal(size=(images, repeats, voxels))
    return true, trials


def flat(trials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    images, repeats, voxels = trials.shape
    return trials.reshape(-1, voxels), np.repeat(np.arange(images), repeats)


def test_ncsnr_finds_the_ratio_that_was_simulated() -> None:
    _, trials = responses(1.0, 2.0, images=4000)
    # Standard error of a ratio of variances from 4,000 images: below 0.02.
    np.testing.assert_allclose(ncsnr(*flat(trials)), 0.5, atol=0.08)


def test_ncsnr_equals_the_plain_formula_with_unequal_repeats() -> None:
    generator = np.random.default_rng(1)
    ids = np.array([7, 7, 7, 2, 2, 9, 5, 5])
    trials = generator.normal(size=8) + 3 * (ids == 7)
    groups = [trials[ids == one] for one in (7, 2, 5)]
    noise = sum((len(g) - 1) * g.var(ddof=1) for g in groups) / (2 + 1 + 1)
    truth = np.sqrt(max(trials.var() - noise, 0) / noise)
    order = generator.permutation(8)
    assert ncsnr(trials[order, None], ids[order])[0] == pytest.approx(truth, rel=1e-12)
    with pytest.raises(ValueError, match="2 repeats"):
        ncsnr(trials[:, None], np.arange(8))
    assert ncsnr([[1.0], [1.0], [2.0], [2.0]], [0, 0, 1, 1])[0] == np.inf


def test_the_noise_ceiling_is_the_best_r2_of_a_perfect_model() -> None:
    true, trials = responses(1.0, 1.5, images=20_000, voxels=1)
    for count in (1, 2, 3):
        best = np.corrcoef(true[:, 0], trials[:, :count].mean(1)[:, 0])[0, 1] ** 2
        found = noise_ceiling([1 / 1.5], np.full(5, count))[0]
        assert found == pytest.approx(best, abs=4 * 2 / np.sqrt(20_000))
    assert noise_ceiling([2.0], [1, 2])[0] == pytest.approx(4 / (4 + 0.75))
    assert noise_ceiling([0.0, np.inf], [1]).tolist() == [0, 1]
    with pytest.raises(ValueError, match="1 trial"):
        noise_ceiling([1.0], [0])
    with pytest.raises(ValueError, match="0 and more"):
        noise_ceiling([-1.0], [1])


def test_split_halves_give_the_reliability_of_both_together() -> None:
    _, trials = responses(1.0, 2.0, images=3000, repeats=4)
    found = split_half(*flat(trials), n_splits=5)
    # Signal 1, noise 4 / 4: reliability 0.5; standard error below 2 / sqrt(3000).
    np.testing.assert_allclose(found, 0.5, atol=4 * 2 / np.sqrt(3000))
    assert spearman_brown(0.2, 4) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="3 repeated"):
        split_half(np.ones((4, 1)), [0, 0, 1, 1])


def test_consistency_scores_every_repeat_against_every_other() -> None:
    sets = [np.array([0.0, 1]), np.array([2.0, 5]), np.array([3.0, 3])]
    found = consistency(sets, lambda a, b: np.maximum(a - b, 0))
    np.testing.assert_allclose(found, [(2 + 3 + 1) / 6, (4 + 2 + 2) / 6])
    with pytest.raises(ValueError, match="2 repeats"):
        consistency(sets[:1], lambda a, b: a)


def test_brain_correlation_is_pearson_across_voxels_of_honest_averages() -> None:
    generator = np.random.default_rng(2)
    ids, shown = np.array([5, 3, 8]), np.array([3, 5, 3, 8, 5, 3, 99])
    trials, predicted = generator.normal(size=(7, 20)), generator.normal(size=(3, 20))
    region = np.arange(20) < 9
    found = brain_correlation(predicted, ids, trials, shown, {"V1": region, "all": region | True})
    for name, mask in (("V1", region), ("all", np.ones(20, bool))):
        truth = [
            np.corrcoef(predicted[row, mask], trials[shown == one][:, mask].mean(0))[0, 1]
            for row, one in enumerate(ids)
        ]
        np.testing.assert_allclose(found[name].per_image, truth, rtol=0, atol=1e-12)
        assert found[name].value == pytest.approx(np.mean(truth))


def test_a_perfect_encoder_reaches_its_ceiling() -> None:
    generator = np.random.default_rng(3)
    true = generator.normal(size=(300, 200))
    counts = generator.integers(1, 4, size=300)
    shown = np.repeat(np.arange(300), counts)
    trials = true[shown] + 2 * generator.normal(size=(len(shown), 200))
    found = brain_correlation(true, np.arange(300), trials, shown)["all"]
    assert found.value < 0.7
    # 300 correlations over 200 voxels, and pairs of repeats: each below 0.01 in standard error.
    assert found.normalised == pytest.approx(1.0, abs=0.04)
    once = brain_correlation(true, np.arange(300), true, np.arange(300))["all"]
    assert np.isnan(once.ceiling)
    assert once.value == pytest.approx(1.0)
    assert brain_correlation(0 * true, np.arange(300), trials, shown)["all"].value == 0


def test_brain_correlation_refuses_what_does_not_fit() -> None:
    rows = np.random.default_rng(4).normal(size=(2, 5))
    with pytest.raises(ValueError, match="image 7 has none"):
        brain_correlation(rows, [1, 7], rows, [1, 2])
    with pytest.raises(ValueError, match="once"):
        brain_correlation(rows, [1, 1], rows, [1, 2])
    with pytest.raises(ValueError, match="finite"):
        brain_correlation(rows * np.nan, [1, 2], rows, [1, 2])
    with pytest.raises(ValueError, match="5 bools"):
        brain_correlation(rows, [1, 2], rows, [1, 2], {"V1": [0, 1]})
    with pytest.raises(ValueError, match=r"\[n, V\]"):
        brain_correlation(rows, [1, 2], rows[:, :3], [1, 2])


def test_averages_take_every_choice_of_repeats_once() -> None:
    trials = np.arange(12.0).reshape(2, 3, 2)
    found = dict(averages(trials, 2))
    assert list(found) == [(0, 1), (0, 2), (1, 2)]
    np.testing.assert_allclose(found[0, 2], (trials[:, 0] + trials[:, 2]) / 2)
    with pytest.raises(ValueError, match="1 to 3"):
        next(averages(trials, 4))


def test_repeats_gain_what_averaging_noise_away_gains() -> None:
    generator = np.random.default_rng(5)
    trials = {s: generator.normal(size=(200, 3, 1)) for s in "ab"}  # no signal: only noise
    ids = {s: np.arange(200) for s in trials}
    scores = {
        size: {s: [-(m[:, 0] ** 2) for _, m in averages(t, size)] for s, t in trials.items()}
        for size in (1, 2, 3)
    }
    one, two, three = effect_of_repeats(scores, ids, n_bootstrap=500)
    assert (one.repeats, one.gain, one.gain_low, one.gain_high) == (1, 0, 0, 0)
    for row, truth in ((one, -1), (two, -1 / 2), (three, -1 / 3)):  # variance of a mean of k
        assert row.low < truth < row.high
        assert row.low < row.value < row.high
    assert two.gain_low < 0.5 < two.gain_high
    # Paired resamples: the gain is known better than two independent scores would say.
    assert three.gain_high - three.gain_low < np.hypot(three.high - three.low, one.high - one.low)
    with pytest.raises(ValueError, match="single trials"):
        effect_of_repeats({2: scores[2]}, ids)
    with pytest.raises(ValueError, match="subjects a, b"):
        effect_of_repeats({1: {"a": scores[1]["a"]}}, ids)
    with pytest.raises(ValueError, match="200"):
        effect_of_repeats({1: {"a": scores[1]["a"], "b": [[1.0]]}}, ids)
