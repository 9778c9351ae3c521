"""Query tokens that know their place, and whitened targets."""

from __future__ import annotations

import torch

from brainit_bit import LevelWhitening, grid_queries
from brainit_bit.query_grid import FREQUENCY


def test_near_tokens_start_alike_as_a_gaussian_of_their_distance() -> None:
    # With normal frequencies the expected product of two features is exp(-(f d)^2 / 2) / 2; the
    # level's share, 1 / 2 in the mean, is common to all. 20,000 features: standard error 0.007.
    (tokens,) = grid_queries([12], 20_000, torch.Generator().manual_seed(0)).split([144])
    line = (torch.arange(12) + 0.5) / 12
    places = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).view(-1, 2)
    distance = torch.cdist(places, places)
    products = tokens @ tokens.T / tokens.shape[1]
    expected = torch.exp(-((FREQUENCY * distance) ** 2) / 2) / 2 + 0.5
    torch.testing.assert_close(products, expected, rtol=0, atol=0.04)


def test_levels_start_apart_and_the_same_seed_gives_the_same() -> None:
    first, second = (grid_queries([4, 2], 512, torch.Generator().manual_seed(1)) for _ in range(2))
    assert first.shape == (20, 512)
    assert torch.equal(first, second)
    assert abs(float(first.square().mean()) - 1) < 0.1
    large, small = first.split([16, 4])
    assert float((large.mean(0) - small.mean(0)).square().mean()) > 0.5


def test_whitened_tokens_have_one_scale_in_every_direction_that_varies() -> None:
    generator = torch.Generator().manual_seed(2)
    mix = torch.randn(2, 6, 6, generator=generator)
    mix[1, :, 4:] = mix[1, :, :2]  # repeated values, as in packed tokens: no variance of their own
    plain = torch.randn(3_000, 5, 6, generator=generator)
    tokens = torch.cat([plain[:, :3] @ mix[0] + 7, plain[:, 3:] @ mix[1]], 1)
    whitening = LevelWhitening(tokens, [3, 2])
    levels = torch.tensor([0, 1, 0])
    white = whitening(tokens[:, [0, 3, 2]], levels)
    spectra = [torch.linalg.eigvalsh(torch.cov(white[:, i].T)) for i in range(2)]
    # One over sixteen, less where the floor of 1 % of the largest variance holds it back.
    assert float(spectra[0].max()) < 1.1 / 16
    assert float(spectra[0][1:].min()) > 0.3 / 16
    assert float(spectra[1][:2].max()) < 1e-5
    assert abs(float(white[:, 0].mean())) < 0.02
    # Each token by its own level's map, whatever their order.
    torch.testing.assert_close(white[:, 2:], whitening(tokens[:, 2:3], levels[:1]))
