from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from brainit_eval import n_way, two_way
from brainit_eval.metrics import identification, similarity
from brainit_eval.metrics.identification import Ranks, against, identify


@pytest.fixture(autouse=True)
def _pair_by_pair(monkeypatch) -> None:
    """Close calls are decided pair by pair, also where there are few clear ones beside them."""
    monkeypatch.setattr(similarity, "_PAIR_COST", 0)


def reference(pred: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Success ``[true image, reconstruction]`` as the field's code has it, strict and by loop."""
    n = len(pred)
    r = np.array([[np.corrcoef(true[i], pred[j])[0, 1] for j in range(n)] for i in range(n)])
    return r < np.diag(r)


def noisy(n: int, width: int, noise: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    true = torch.randn(n, width, generator=generator)
    return true + noise * torch.randn(n, width, generator=generator), true


@pytest.mark.parametrize("columns", [1, 7, 1024])
def test_streamed_equals_corrcoef_without_a_flip(monkeypatch, columns: int) -> None:
    monkeypatch.setattr(similarity, "_COLUMNS", columns)
    monkeypatch.setattr(similarity, "_BUFFER", 5 * columns)
    pred, true = noisy(24, 50, noise=4.0)
    pred = pred + 30  # a common offset, which the correlation does not see
    success = reference(pred.double().numpy(), true.double().numpy())
    result = two_way(pred, true)
    assert 0.5 < success.sum() / (24 * 23) < 0.95
    np.testing.assert_array_equal(result.success, success)
    np.testing.assert_array_equal(result.ranks, 23 - success.sum(0))
    assert result.value == pytest.approx(success.sum() / (24 * 23), abs=1e-15)


def test_the_reconstruction_is_fixed_and_distractors_are_true_images() -> None:
    # Image 0 is a hub: every reconstruction resembles it. So reconstructions 1 and 2 lose
    # against it, while image 0 still finds its own reconstruction best.
    true = torch.eye(4)[:3]
    pred = torch.tensor([[3.0, 0, 0, 0], [2, 1, 0, 0], [2, 0, 1, 0]])
    result = two_way(pred, true)
    assert result.ranks.tolist() == [0, 1, 1]
    assert result.value == pytest.approx(1 - 2 / 6)
    assert two_way(true, pred).value != result.value


@pytest.mark.parametrize("n", [2, 12])
def test_perfect_reconstructions_score_exactly_one(n: int) -> None:
    _, true = noisy(n, 30, 0.0)
    assert two_way(true, true).value == 1.0
    assert two_way(7 * true + 3, true).value == 1.0


def test_unrelated_reconstructions_score_chance() -> None:
    values = [
        two_way(noisy(60, 40, 0.0, seed)[1], noisy(60, 40, 0.0, 100 + seed)[1]).value
        for seed in range(20)
    ]
    # Each score has a standard deviation of about 0.29 / sqrt(60); four of the mean's.
    assert np.mean(values) == pytest.approx(0.5, abs=4 * 0.29 / np.sqrt(60 * 20))


def test_ties_count_as_failures() -> None:
    pred, true = noisy(6, 20, 0.0)
    true[4] = true[1]
    pred[4] = pred[1]
    result = two_way(pred, true)
    assert result.ranks.tolist() == [0, 1, 0, 0, 1, 0]
    assert two_way(torch.ones(6, 20) * pred[:1], true[:1].repeat(6, 1)).value == 0.0


@pytest.mark.parametrize("bad", [float("nan"), 0.1])
def test_nan_and_constant_features_count_as_failures(bad: float) -> None:
    pred, true = noisy(6, 20, 0.0)
    pred[2] = bad
    assert two_way(pred, true).ranks.tolist() == [0, 0, 5, 0, 0, 0]
    pred, true = noisy(6, 20, 0.0)
    true[2] = bad
    assert two_way(pred, true).ranks.tolist() == [1, 1, 5, 1, 1, 1]


def test_order_of_the_images_does_not_matter() -> None:
    pred, true = noisy(20, 30, 3.0)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(5))
    np.testing.assert_array_equal(
        two_way(pred, true).ranks[order], two_way(pred[order], true[order]).ranks
    )


def test_n_way_equals_counting_all_subsets() -> None:
    ranks = np.array([0, 1, 3, 5, 2, 0])
    for ways in (2, 3, 6):
        subsets = list(combinations(range(5), ways - 1))  # of the 5 distractors, the first k win
        counted = [np.mean([min(s) >= k for s in subsets]) for k in ranks]
        assert n_way(ranks, ways) == pytest.approx(np.mean(counted), abs=1e-12)


def test_n_way_of_two_is_two_way() -> None:
    result = two_way(*noisy(20, 30, 3.0))
    assert n_way(result.ranks, 2) == pytest.approx(result.value, abs=1e-12)
    assert n_way(np.zeros(1000, dtype=int), 1000) == 1.0


def close_call(
    kind: torch.dtype = torch.float32, width: int = 3000, rivals: str = "pred true"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs with rivals: vectors so like the right one that float32 cannot tell them apart."""
    pred, true = noisy(60, width, noise=2.0)
    if "true" in rivals:
        true[30:] = true[:30] + 1e-7 * noisy(30, width, 0.0, seed=1)[1]
    if "pred" in rivals:
        pred[30:] = pred[:30] + 1e-6 * noisy(30, width, 0.0, seed=2)[1]
    return pred.to(kind), true.to(kind)


def truth(pred: torch.Tensor, true: torch.Tensor) -> np.ndarray:
    """Correlations ``[true image, reconstruction]`` of numpy in float64."""
    n = len(pred)
    return np.corrcoef(true.double().numpy(), pred.double().numpy())[:n, n:]


@pytest.mark.parametrize("rivals", ["pred true", "pred", "true"])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_close_calls_are_those_of_corrcoef_in_both_directions(kind, offset, rivals: str) -> None:
    pred, true = close_call(kind, rivals=rivals)
    pred, true = pred + offset, true - offset
    r = truth(pred, true)
    own = np.diag(r)
    # Apart by more than float64's rounding, yet many by less than float32's.
    off = ~np.eye(60, dtype=bool)
    margins = np.minimum(np.abs(own - r), np.abs(own - r.T))[off]
    assert margins.min() > 1e-11
    assert (margins < 1e-7).sum() >= 20
    rough = torch.corrcoef(torch.cat([true, pred]).float()).numpy()[:60, 60:]
    ways = [(rough, r), (rough.T, r.T)]
    flips = [(a < np.diag(a)) != (b < own) for a, b in ways]
    assert np.any(flips)  # by single precision alone
    found = identify(pred, true)
    np.testing.assert_array_equal(found.reconstruction_fixed.success, r < own)
    np.testing.assert_array_equal(found.image_fixed.success, own > r.T)


def test_where_many_calls_are_close_all_is_computed_in_double(monkeypatch) -> None:
    pred, true = noisy(40, 30, noise=2.0)
    true[1:] = true[:1]
    kept = identify(pred, true)
    monkeypatch.setattr(similarity, "_PAIR_COST", 100)
    monkeypatch.setattr(similarity, "_dots", None)
    found = similarity.similarities(*similarity.pairs(true, pred, centred=True), paired=True)
    np.testing.assert_allclose(found, truth(pred, true), rtol=0, atol=1e-13)
    assert kept.reconstruction_fixed.value == 0.0


@pytest.mark.parametrize("offset", [0.0, 20.0, 1e6])
def test_the_error_of_single_precision_stays_below_its_bound(offset: float) -> None:
    pred, true = (values + offset for values in close_call())
    rows, columns = (similarity.Vectors.of(values, centred=True) for values in (true, pred))
    found, bound = similarity._in_single(rows, columns)
    exact = similarity._in_double(rows, columns)
    assert 0 < float((found - exact).abs().max()) < bound < 1e-4
    # In numpy, too, each mean has a rounding error relative to the offset.
    np.testing.assert_allclose(exact, truth(pred, true), rtol=0, atol=1e-13 * (1 + offset))


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e18, 1e30])
def test_scale_does_not_matter_where_float32_would_over_or_underflow(scale: float) -> None:
    pred, true = close_call()
    found, scaled = two_way(pred, true), identify(pred * scale, true * scale).reconstruction_fixed
    r = truth(pred * scale, true * scale)
    np.testing.assert_array_equal(scaled.success, r < np.diag(r))
    assert abs(found.value - scaled.value) < 0.02  # scaling rounds, which moves close calls


@pytest.mark.parametrize("setting", ["bf16", "autocast"])
def test_settings_that_coarsen_products_flip_nothing(setting: str) -> None:
    pred, true = close_call(width=100)  # few features: coarse products are far off
    before = torch.backends.mkldnn.matmul.fp32_precision
    try:
        if setting == "bf16":
            torch.backends.mkldnn.matmul.fp32_precision = "bf16"
        with torch.autocast("cpu", torch.bfloat16, enabled=setting == "autocast"):
            coarse = two_way(pred, true)
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before
    np.testing.assert_array_equal(coarse.success, two_way(pred, true).success)


def test_inputs_are_left_as_they_were() -> None:
    for kind in (torch.float32, torch.float64):
        pred, true = noisy(10, 20, 1.0)
        pred, true = pred.to(kind).requires_grad_(), true.to(kind)
        copies = pred.detach().clone(), true.clone()
        identify(pred, true)
        assert torch.equal(pred, copies[0])
        assert torch.equal(true, copies[1])


def test_an_asymmetric_fixture_fixes_both_directions() -> None:
    # Image 0 is a hub for reconstructions (see above): it draws reconstructions 1 and 2 away from
    # their images. Given an image, though, its own reconstruction is the most similar.
    true = torch.eye(4)[:3]
    pred = torch.tensor([[3.0, 0, 0, 0], [2, 1, 0, 0], [2, 0, 1, 0]])
    found = identify(pred, true)
    assert found.reconstruction_fixed.ranks.tolist() == [0, 1, 1]
    assert found.image_fixed.ranks.tolist() == [0, 0, 0]
    turned = identify(true, pred)
    assert turned.image_fixed.ranks.tolist() == [0, 1, 1]
    assert found.reconstruction_fixed.success[0].tolist() == [False, False, False]


@pytest.mark.parametrize("n", [2, 12])
def test_perfect_reconstructions_are_exactly_one_in_every_form(n: int) -> None:
    _, true = noisy(n, 30, 0.0)
    found = identify(true, true)
    for direction in (found.reconstruction_fixed, found.image_fixed):
        assert direction.value == direction.all().value == direction.all().top() == 1.0
        assert direction.all().top(1, n) == direction.all().top(1, 2) == 1.0
    assert against(true, true, noisy(5, 30, 0.0, seed=9)[1]).value == 1.0


def test_within_groups_only_the_same_group_distracts() -> None:
    pred, true = noisy(30, 40, noise=4.0)
    groups = np.array(["cat", "dog", "car"])[np.arange(30) % 3]
    groups[0] = "alone"
    ranks = identify(pred, true).reconstruction_fixed.within(groups)
    r = truth(pred, true)
    counted = [
        sum(r[i, j] >= r[j, j] for i in range(30) if i != j and groups[i] == groups[j])
        for j in range(30)
    ]
    assert ranks.ranks.tolist() == counted
    assert ranks.distractors.tolist() == [0, *[9, 9, 8] * 9, 9, 9]
    assert np.isnan(ranks.per_image[0])
    assert ranks.value == pytest.approx(
        np.mean([1 - k / n for k, n in zip(counted[1:], ranks.distractors[1:], strict=True)])
    )
    with pytest.raises(ValueError, match="30 labels"):
        identify(pred, true).reconstruction_fixed.within([1, 2])


def test_clusters_without_knowledge_within_them_follow_the_formula() -> None:
    # K = 10 clusters of 20; a reconstruction shows its cluster's centre and noise of its own.
    generator = torch.Generator().manual_seed(3)
    centres = torch.randn(10, 200, generator=generator).repeat_interleave(20, 0)
    true, pred = (centres + 0.3 * torch.randn(200, 200, generator=generator) for _ in range(2))
    found = two_way(pred, true)
    within = found.within(np.arange(200) // 20)
    # Within clusters 200 items of standard deviation 0.29 around chance.
    assert within.value == pytest.approx(0.5, abs=4 * 0.29 / np.sqrt(200))
    # All between clusters are right; 19 of 199 distractors share the cluster.
    assert found.value == pytest.approx(1 - 19 / 199 * (1 - within.value), abs=1e-12)


def test_against_training_images_counts_candidates_in_any_blocks(monkeypatch) -> None:
    monkeypatch.setattr(identification, "_ROWS", 7)
    pred, true = noisy(12, 40, noise=3.0)
    training = noisy(50, 40, 0.0, seed=4)[1]
    training[3] = true[2]  # a test image that was trained on ties with itself
    ranks = against(pred, true, training)
    r = np.corrcoef(training.double().numpy(), pred.double().numpy())[:50, 50:]
    own = np.diag(truth(pred, true))
    expected = (r > own + 1e-12).sum(0)
    expected[2] += 1
    assert ranks.ranks.tolist() == expected.tolist()
    assert set(ranks.distractors.tolist()) == {50}
    both = two_way(pred, true).all() + ranks
    assert both.ranks.tolist() == (expected + two_way(pred, true).ranks).tolist()
    assert set(both.distractors.tolist()) == {61}
    training[0] = torch.nan
    assert (against(pred, true, training).ranks >= 1).all()
    with pytest.raises(ValueError, match="expected"):
        against(pred, true, training[:, :5])


def test_top_k_equals_counting_all_subsets() -> None:
    ranks = Ranks(np.array([0, 1, 3, 5, 2, 0]), np.full(6, 5))
    for ways in (2, 3, 6):
        for k in (1, 2, 3):
            subsets = list(combinations(range(5), ways - 1))
            counted = [np.mean([sum(x < r for x in s) < k for s in subsets]) for r in ranks.ranks]
            assert ranks.top(k, ways) == pytest.approx(np.mean(counted), abs=1e-15)
        assert ranks.top(1, ways) == pytest.approx(n_way(ranks.ranks, ways), abs=1e-12)
    assert ranks.top(2) == 3 / 6 == ranks.top(2, 6)
    with pytest.raises(ValueError, match="2 to 6"):
        ranks.top(1, 7)
    with pytest.raises(ValueError, match="1 or more"):
        ranks.top(0)


def test_n_way_and_top_k_equal_simulation() -> None:
    result = two_way(*noisy(100, 60, 6.0))
    generator = np.random.default_rng(0)
    draws = 400
    for ways, k in ((10, 1), (50, 1), (50, 5)):
        hits = np.zeros(100)
        for item, rank in enumerate(result.ranks):
            drawn = generator.random((draws, 99)).argpartition(ways - 2, 1)[:, : ways - 1]
            hits[item] = ((drawn < rank).sum(1) < k).mean()  # the first `rank` are the better ones
        error = 0.5 / np.sqrt(100 * draws)  # at most, of a mean of so many yes or no
        assert result.all().top(k, ways) == pytest.approx(hits.mean(), abs=4 * error)
        if k == 1:
            assert n_way(result.ranks, ways) == pytest.approx(hits.mean(), abs=4 * error)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        two_way(torch.rand(4, 8), torch.rand(5, 8))
    with pytest.raises(ValueError, match="2 rows"):
        two_way(torch.rand(1, 8), torch.rand(1, 8))
    with pytest.raises(ValueError, match="2 to 3"):
        n_way(np.zeros(3), 4)
