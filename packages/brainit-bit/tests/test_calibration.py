"""The calibration recovers an affine map per level and equals numpy's least squares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from brainit_bit.calibration import LevelCalibration

SIZES, DIM = (5, 3), 4


def _samples(noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    predicted = torch.randn(200, sum(SIZES), DIM, generator=generator)
    maps = torch.randn(2, DIM, DIM, generator=generator)
    target = torch.cat([predicted[:, :5] @ maps[0] + 1, predicted[:, 5:] @ maps[1] - 2], 1)
    return predicted, target + noise * torch.randn(target.shape, generator=generator)


def _fitted(predicted: torch.Tensor, target: torch.Tensor) -> LevelCalibration:
    fit = LevelCalibration(SIZES, DIM)
    for part in range(0, 200, 50):
        fit.update(predicted[part : part + 50], target[part : part + 50])
    return fit.solve()


def test_exact_map_is_recovered_to_the_ridge() -> None:
    predicted, target = _samples(noise=0.0)
    # The smallest ridge, 1e-4, shrinks values of order 3 by that share.
    torch.testing.assert_close(_fitted(predicted, target)(predicted), target, atol=2e-3, rtol=0)


def test_noisy_fit_equals_least_squares() -> None:
    predicted, target = _samples(noise=0.5)
    solved = _fitted(predicted, target)
    x = np.concatenate([predicted[:, :5].reshape(-1, DIM).numpy(), np.ones((1000, 1))], 1)
    expected, *_ = np.linalg.lstsq(x, target[:, :5].reshape(-1, DIM).double().numpy(), rcond=None)
    assert solved.weight is not None
    np.testing.assert_allclose(solved.weight[0].numpy(), expected[:-1], atol=5e-3)


def test_what_a_level_explains_is_measured_where_it_was_not_fitted() -> None:
    predicted, target = _samples(noise=0.5)
    generator = torch.Generator().manual_seed(1)
    target[:, 5:] = torch.randn(200, 3, DIM, generator=generator)  # the second level knows nothing
    solved = _fitted(predicted, target)
    assert solved.explained is not None
    assert solved.residual is not None
    # Variance of a level: its noise, 0.25, and its signal; the noise alone remains.
    variance = float(target[:, :5].flatten(0, 1).var(0).mean())
    assert float(solved.explained[0]) == pytest.approx(1 - 0.25 / variance, abs=0.02)
    assert float(solved.residual[0]) == pytest.approx(0.25, rel=0.1)
    # Overfitting costs about a share of D / (600 samples) and a heavy ridge avoids most of it.
    assert -0.02 < float(solved.explained[1]) < 0.02
    first, second = solved.level_weights()
    assert first + second == pytest.approx(1)
    assert first > 0.99


def test_round_trip_and_errors(tmp_path: Path) -> None:
    predicted, target = _samples(noise=0.1)
    fit = LevelCalibration(SIZES, DIM)
    with pytest.raises(ValueError, match="not been fitted"):
        fit(predicted)
    with pytest.raises(ValueError, match="not been fitted"):
        fit.level_weights()
    with pytest.raises(ValueError, match=r"must be \(200, 8, 4\)"):
        fit.update(predicted, target[:, :-1])
    fit.update(predicted, target)
    with pytest.raises(ValueError, match="two or more updates"):
        fit.solve()
    solved = _fitted(predicted, target)
    solved.save(tmp_path / "c.safetensors")
    loaded = LevelCalibration.load(tmp_path / "c.safetensors")
    torch.testing.assert_close(loaded(predicted), solved(predicted))
    assert loaded.level_weights() == solved.level_weights()
