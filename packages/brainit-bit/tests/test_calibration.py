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


def test_exact_map_is_recovered_to_the_ridge() -> None:
    predicted, target = _samples(noise=0.0)
    fit = LevelCalibration(SIZES, DIM)
    for part in range(0, 200, 50):
        fit.update(predicted[part : part + 50], target[part : part + 50])
    # the ridge shrinks by about RIDGE = 1e-4 of values of order 3
    torch.testing.assert_close(fit.solve()(predicted), target, atol=2e-3, rtol=0)


def test_noisy_fit_equals_least_squares() -> None:
    predicted, target = _samples(noise=0.5)
    fit = LevelCalibration(SIZES, DIM)
    fit.update(predicted, target)
    solved = fit.solve()
    x = np.concatenate([predicted[:, :5].reshape(-1, DIM).numpy(), np.ones((1000, 1))], 1)
    expected, *_ = np.linalg.lstsq(x, target[:, :5].reshape(-1, DIM).double().numpy(), rcond=None)
    assert solved.weight is not None
    np.testing.assert_allclose(solved.weight[0].numpy(), expected[:-1], atol=2e-3)


def test_round_trip_and_errors(tmp_path: Path) -> None:
    predicted, target = _samples(noise=0.1)
    fit = LevelCalibration(SIZES, DIM)
    with pytest.raises(ValueError, match="not been fitted"):
        fit(predicted)
    with pytest.raises(ValueError, match=r"must be \(200, 8, 4\)"):
        fit.update(predicted, target[:, :-1])
    fit.update(predicted, target)
    solved = fit.solve()
    solved.save(tmp_path / "c.safetensors")
    torch.testing.assert_close(
        LevelCalibration.load(tmp_path / "c.safetensors")(predicted), solved(predicted)
    )
