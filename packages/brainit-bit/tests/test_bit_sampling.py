"""Random voxels and query tokens: counts, ranges, seeds."""

from __future__ import annotations

import pytest
import torch

from brainit_bit import draw_queries, draw_voxels


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_draws_with_replacement_add_up_and_spread_evenly() -> None:
    counts = draw_voxels(50, 200, 400, seeded())
    assert counts.shape == (400, 50)
    assert (counts.sum(1) == 200).all()
    assert counts.max() > 1
    # Each voxel: 80,000 draws at 1/50, so 1,600 with a standard deviation of 39.6; five of them.
    assert ((counts.sum(0) - 1600).abs() < 5 * 39.6).all()
    assert not torch.equal(counts[0], counts[1])


def test_draws_without_replacement_are_distinct() -> None:
    counts = draw_voxels(50, 20, 30, seeded(), replacement=False)
    assert set(counts.unique().tolist()) == {0.0, 1.0}
    assert (counts.sum(1) == 20).all()


def test_same_seed_same_draw() -> None:
    assert torch.equal(draw_voxels(50, 20, 3, seeded()), draw_voxels(50, 20, 3, seeded()))
    assert not torch.equal(draw_voxels(50, 20, 3, seeded()), draw_voxels(50, 20, 3, seeded(1)))
    one, other = (draw_queries([40, 30], [5, 6], seeded())[0] for _ in range(2))
    assert torch.equal(one, other)


@pytest.mark.parametrize("batch", [None, 7])
def test_queries_stay_in_their_levels(batch: int | None) -> None:
    queries, levels = draw_queries([40, 30, 9], [5, 6, 9], seeded(), batch=batch)
    assert queries.shape == ((20,) if batch is None else (batch, 20))
    assert levels.tolist() == [0] * 5 + [1] * 6 + [2] * 9
    bounds = torch.tensor([0, 40, 70, 79])
    assert (queries >= bounds[levels]).all()
    assert (queries < bounds[levels + 1]).all()
    assert all(len(row.unique()) == 20 for row in queries.view(-1, 20))
    assert queries.view(-1, 20)[0, -9:].tolist() == list(range(70, 79))


@pytest.mark.parametrize("arguments", [(50, 0, 2), (50, 51, 2)])
def test_impossible_draws(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="n_draws"):
        draw_voxels(*arguments, seeded(), replacement=False)
    with pytest.raises(ValueError, match=r"per_level\[1\]"):
        draw_queries([4, 3], [2, 5], seeded())
    with pytest.raises(ValueError, match="per_level"):
        draw_queries([4, 3], [2], seeded())
