"""Weights from validation data against squared correlations by hand."""

from __future__ import annotations

import pytest
import torch

from brainit_dip import TokenReliability, VGGTokens


def test_shares_are_squared_correlations() -> None:
    layout = VGGTokens([1, 2, 3], 8)
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(30, layout.n_tokens, layout.token_dim, generator=generator)
    noise = torch.randn(true.shape, generator=generator)
    quality = torch.linspace(0, 1, layout.n_tokens)[:, None]
    predicted = quality * true + 0.5 * noise + 3
    predicted[:, 1] = -true[:, 1]
    predicted[:, 2] = 1.0
    found = TokenReliability(layout)
    for part in range(0, 30, 7):
        found.update(predicted[part : part + 7], true[part : part + 7])
    p, t = predicted.double(), true.double()
    p, t = p - p.mean(0), t - t.mean(0)
    cross, power = (p * t).sum((0, 2)), p.square().sum((0, 2)) * t.square().sum((0, 2))
    expected = (cross.clamp(min=0).square() / power).nan_to_num().float()
    # Sums of raw squares lose a few digits of float64; the result is float32.
    torch.testing.assert_close(found.tokens(), expected, rtol=1e-5, atol=1e-7)
    assert found.tokens()[1] == found.tokens()[2] == 0
    first = slice(0, layout.level_sizes[0])
    share = (p * t)[:, first].sum() ** 2 / p[:, first].square().sum() / t[:, first].square().sum()
    assert found.levels()[0] == pytest.approx(float(share), rel=1e-5)
    assert found.levels()[0] < found.levels()[2]


def test_wrong_input_is_refused() -> None:
    layout = VGGTokens([1, 2], 8)
    found = TokenReliability(layout)
    tokens = torch.zeros(1, layout.n_tokens, layout.token_dim)
    with pytest.raises(ValueError, match="two images or more"):
        found.tokens()
    with pytest.raises(ValueError, match="tokens: expected twice"):
        found.update(tokens, tokens[:, 1:])
    with pytest.raises(ValueError, match="finite"):
        found.update(tokens, tokens / 0)
