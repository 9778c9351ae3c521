"""Corrupted features: the correlation asked for, calibrated, with the features' own spectrum."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from brainit_dip import corrupt


def maps(channels: int = 6, side: int = 16, batch: int = 5) -> list[Tensor]:
    """Maps far above zero, so that clamping changes nothing; channels that covary."""
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(batch, channels, side, side, generator=generator, dtype=torch.float64)
    return [100 + mixed + mixed.roll(1, 1) + mixed.cumsum(3) / 4, 100 + mixed[..., :8, :8]]


def centred(x: Tensor) -> Tensor:
    return x - x.mean((0, 2, 3), keepdim=True)


@pytest.mark.parametrize("r", [0.0, 0.35, 0.8, 1.0])
def test_correlation_and_calibration_are_those_asked_for(r: float) -> None:
    for true, found in zip(maps(), corrupt(maps(), r, 0), strict=True):
        truth, guess = centred(true), found - true.mean((0, 2, 3), keepdim=True)
        # Errors are orthogonal to the truth and as large: r^2 t + r sqrt(1 - r^2) e.
        power = truth.square().sum()
        torch.testing.assert_close((truth * guess).sum() / power, torch.tensor(r**2).double())
        torch.testing.assert_close(guess.square().sum() / power, torch.tensor(r**2).double())


def test_each_level_and_image_has_its_own() -> None:
    wanted = torch.tensor([[1.0, 0, 1, 1, 1], [0, 1, 1, 1, 1]])
    true, found = maps(), corrupt(maps(), wanted, 0)
    for level in range(2):
        for image in range(5):
            same = torch.allclose(true[level][image], found[level][image])
            assert same == bool(wanted[level, image])


def test_errors_have_the_spectrum_of_the_features() -> None:
    (true, _), (found, _) = maps(), corrupt(maps(), 0.5, 0)
    errors = found - true.mean((0, 2, 3), keepdim=True) - 0.25 * centred(true)
    a, b = (torch.fft.rfft2(x).abs().square().mean((0, 1)) for x in (errors, centred(true)))
    # Phases do not change the spectrum; taking out what is left of the truth does, a little.
    assert torch.corrcoef(torch.stack([a.ravel().log(), b.ravel().log()]))[0, 1] > 0.99
    c, d = (torch.corrcoef(x.transpose(0, 1).flatten(1)) for x in (errors, centred(true)))
    assert (c - d).abs().max() < 0.2


def test_values_are_those_of_a_relu_and_of_a_seed() -> None:
    low = [x - 100 for x in maps()]
    assert all((x >= 0).all() for x in corrupt(low, 0.5, 0))
    assert torch.equal(corrupt(low, 0.5, 0)[0], corrupt(low, 0.5, 0)[0])
    assert not torch.equal(corrupt(low, 0.5, 0)[0], corrupt(low, 0.5, 1)[0])


def test_wrong_correlations_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected values in \[0, 1\]"):
        corrupt(maps(), 1.1, 0)
    with pytest.raises(ValueError, match=r"expected one, 2 or \[2, 5\]"):
        corrupt(maps(), [0.1, 0.2, 0.3], 0)
