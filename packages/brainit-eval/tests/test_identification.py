from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from brainit_eval import identification, n_way, two_way


def reference(pred: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Success ``[true image, reconstruction]`` as the field's code has it, strict and by loop."""
    n = len(pred)
    r = np.array([[np.corrcoef(true[i], pred[j])[0, 1] for j in range(n)] for i in range(n)])
    return r < np.diag(r)


def noisy(n: int, width: int, noise: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    true = torch.randn(n, width, generator=generator)
    return true + noise * torch.randn(n, width, generator=generator), true


@pytest.mark.parametrize("buffer", [1, 2 * 24 * 7, 4_000_000])  # 1, 7 and all columns at a time
def test_streamed_equals_corrcoef_without_a_flip(monkeypatch, buffer: int) -> None:
    monkeypatch.setattr(identification, "_BUFFER", buffer)
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


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        two_way(torch.rand(4, 8), torch.rand(5, 8))
    with pytest.raises(ValueError, match="2 rows"):
        two_way(torch.rand(1, 8), torch.rand(1, 8))
    with pytest.raises(ValueError, match="2 to 3"):
        n_way(np.zeros(3), 4)
