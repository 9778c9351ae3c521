from __future__ import annotations

import numpy as np
import pytest

from brainit_eval import bootstrap_mean, bootstrap_two_way, draw_weights, percentile_interval


def test_multinomial_form_equals_explicit_resampling() -> None:
    generator = np.random.default_rng(0)
    success = generator.random((9, 9)) < 0.7
    np.fill_diagonal(success, False)
    values = generator.normal(size=9)
    picks = generator.integers(0, 9, size=(200, 9))
    weights = np.stack([np.bincount(pick, minlength=9) for pick in picks]).astype(float)
    explicit = [np.mean([success[i, j] for i in pick for j in pick if i != j]) for pick in picks]
    np.testing.assert_allclose(bootstrap_two_way(success, weights), explicit, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        bootstrap_mean(values, weights), values[picks].mean(1), rtol=0, atol=1e-12
    )


def test_comparisons_that_do_not_count_are_left_out_of_every_resample() -> None:
    generator = np.random.default_rng(4)
    success = generator.random((9, 9)) < 0.7
    kind = np.arange(9) % 2
    among = (kind[:, None] == kind) & ~np.eye(9, dtype=bool)
    picks = generator.integers(0, 9, size=(50, 9))
    weights = np.stack([np.bincount(pick, minlength=9) for pick in picks]).astype(float)
    explicit = [
        np.mean([success[i, j] for i in pick for j in pick if i != j and kind[i] == kind[j]])
        for pick in picks
    ]
    result = bootstrap_two_way(success, weights, among)
    np.testing.assert_allclose(result, explicit, rtol=0, atol=1e-12)


def test_a_resample_of_one_image_has_no_two_way_score() -> None:
    success = ~np.eye(2, dtype=bool)
    result = bootstrap_two_way(success, np.array([[2.0, 0.0], [1.0, 1.0]]))
    assert np.isnan(result[0])
    assert result[1] == 1.0
    assert percentile_interval([result]) == (1.0, 1.0)
    assert np.isnan(percentile_interval([result[:1]])).all()


def test_shared_images_are_drawn_jointly_whatever_their_order() -> None:
    weights = draw_weights({"a": [5, 7, 9], "b": [9, 5, 7]}, 50, seed=0)
    np.testing.assert_array_equal(weights["a"], weights["b"][:, [1, 2, 0]])
    assert (weights["a"].sum(1) == 3).all()
    assert len(np.unique(weights["a"], axis=0)) > 3


def test_other_images_are_drawn_independently() -> None:
    weights = draw_weights({"a": np.arange(20), "b": np.arange(20, 40)}, 400, seed=0)
    correlation = np.corrcoef(weights["a"].T, weights["b"].T)[:20, 20:].diagonal()
    assert abs(correlation.mean()) < 4 / np.sqrt(400 * 20)  # four standard errors


def test_interval_covers_the_known_standard_error() -> None:
    values = np.random.default_rng(1).normal(size=400)
    weights = draw_weights({"a": np.arange(400)}, 4000, seed=2)["a"]
    low, high = percentile_interval([bootstrap_mean(values, weights)])
    error = values.std() / 20
    # A 2.5 % quantile of 4,000 normal draws has a standard error of 0.042 standard deviations.
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.17 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.17 * error)


def test_joint_draws_keep_the_variance_that_subjects_share() -> None:
    values = np.random.default_rng(3).normal(size=100)  # the same difficulty for both subjects
    widths = []
    for other in (np.arange(100), np.arange(100, 200)):
        weights = draw_weights({"a": np.arange(100), "b": other}, 4000, seed=0)
        low, high = percentile_interval([bootstrap_mean(values, w) for w in weights.values()])
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(np.sqrt(2), rel=0.1)


def test_same_seed_same_draws_and_bad_ids_are_refused() -> None:
    first, second = (draw_weights({"a": [1, 2, 3]}, 10, seed=4)["a"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    with pytest.raises(ValueError, match="each once"):
        draw_weights({"a": [1, 1, 2]}, 10, seed=0)
    with pytest.raises(ValueError, match="expected subjects"):
        draw_weights({}, 10, seed=0)
