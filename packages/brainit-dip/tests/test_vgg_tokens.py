"""Packing and unpacking: exact inverses, the published sizes, a plain reference, averaging."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from brainit_dip import VGGTokens

PUBLISHED = ([64, 128, 256, 512, 512], 112)


def random_maps(tokens: VGGTokens, batch: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, *s, generator=generator, dtype=dtype) for s in tokens.map_shapes]


def test_published_sizes_and_exact_inverse() -> None:
    tokens = VGGTokens(*PUBLISHED)
    assert tokens.level_sizes == [56**2, 55**2, 28**2, 14**2, 7**2]
    assert (tokens.n_tokens, tokens.token_dim) == (7190, 512)
    maps = random_maps(tokens, 1)
    packed = tokens.pack(maps)
    assert packed.shape == (1, 7190, 512)
    # Means of 1, 2 or 4 equal floats are exact.
    assert all(torch.equal(a, b) for a, b in zip(maps, tokens.unpack(packed), strict=True))


def test_tiny_sizes() -> None:
    tokens = VGGTokens([16, 32, 64, 128, 128], 64)
    assert tokens.level_sizes == [32**2, 31**2, 16**2, 8**2, 4**2]
    assert tokens.token_dim == 128
    assert torch.bincount(tokens.levels).tolist() == tokens.level_sizes


def test_matches_a_plain_loop() -> None:
    tokens = VGGTokens([2, 3, 7], 8, thumbnail=4)  # 8, 12, 7 and 12 values, filled to 12
    maps = random_maps(tokens, 2)
    rows = []
    for y in range(0, 8, 2):
        rows += [maps[0][:, :, y : y + 2, x : x + 2] for x in range(0, 8, 2)]
    for y in range(3):
        rows += [maps[1][:, :, y : y + 2, x : x + 2] for x in range(3)]
    rows += [maps[2][:, :, y : y + 1, x : x + 1] for y in range(2) for x in range(2)]
    rows += [maps[3][:, :, y : y + 2, x : x + 2] for y in (0, 2) for x in (0, 2)]
    expected = [torch.cat([r.flatten(1)] * 2, dim=1)[:, :12] for r in rows]
    assert torch.equal(tokens.pack(maps), torch.stack(expected, dim=1))


@settings(max_examples=40, deadline=None)
@given(
    channels=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    half=st.integers(8, 20),
    thumbnail=st.integers(0, 4),
    batch=st.integers(1, 3),
)
def test_inverse_for_any_shape(channels: list[int], half: int, thumbnail: int, batch: int) -> None:
    tokens = VGGTokens(channels, 2 * half, 2 * thumbnail)
    maps = random_maps(tokens, batch, torch.float64)
    packed = tokens.pack(maps)
    assert packed.shape == (batch, tokens.n_tokens, tokens.token_dim)
    for a, b in zip(maps, tokens.unpack(packed), strict=True):
        # Sums of up to 36 equal values round up to 36 times: 36 * 2^-53.
        torch.testing.assert_close(a, b, rtol=1e-14, atol=0)


def test_taken_tokens_are_those_of_all() -> None:
    layout = VGGTokens([2, 3, 7], 8)
    maps = random_maps(layout, 2)
    some = torch.tensor([layout.n_tokens - 1, 3, 0, 3, 17])
    taken = layout.take(layout.flatten(maps), some)
    assert torch.equal(taken, layout.pack(maps)[:, some])


def test_unpack_averages_repeats_and_overlaps() -> None:
    tokens = VGGTokens([1, 2, 3], 8)  # 4, 8 and 3 values in tokens of 8
    sizes = tokens.level_sizes
    values = torch.zeros(1, tokens.n_tokens, 8)
    values[0, 0, 0], values[0, 0, 4] = 1.0, 3.0  # both copies of the first pixel
    values[0, sizes[0], 3] = 4.0  # one of the four patches over position (1, 1), channel 0
    values[0, sizes[0] + sizes[1], 6] = 6.0  # one of three copies of the first of three values
    first, second, third = tokens.unpack(values)
    assert first[0, 0, 0, 0] == 2.0
    assert first.count_nonzero() == 1
    assert second[0, 0, 1, 1] == 1.0
    assert second.count_nonzero() == 1
    assert third[0, 0, 0, 0] == 2.0
    assert third.count_nonzero() == 1


def test_gradients() -> None:
    tokens = VGGTokens([1, 2, 3], 8)
    maps = [m.requires_grad_() for m in random_maps(tokens, 1, torch.float64)]
    assert torch.autograd.gradcheck(lambda *m: tokens.pack(m), maps)
    packed = tokens.pack(maps).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda t: tuple(tokens.unpack(t)), packed)


@pytest.mark.parametrize(("channels", "size"), [([4, 4], 7), ([4] * 5, 8), ([], 8), ([0], 8)])
def test_sizes_that_do_not_fit_are_refused(channels: list[int], size: int) -> None:
    with pytest.raises(ValueError, match=r"image_size|channels"):
        VGGTokens(channels, size)


@pytest.mark.parametrize("thumbnail", [-2, 3])
def test_a_thumbnail_that_cannot_be_cut_is_refused(thumbnail: int) -> None:
    with pytest.raises(ValueError, match=f"thumbnail {thumbnail}: expected an even side"):
        VGGTokens([4, 4], 8, thumbnail)


def test_wrong_input_is_refused() -> None:
    tokens = VGGTokens([1, 2], 8)
    with pytest.raises(ValueError, match=r"tokens: expected \[B, 25, 8\]"):
        tokens.unpack(torch.zeros(1, 24, 8))
    with pytest.raises(ValueError, match="maps: expected"):
        tokens.pack([torch.zeros(1, 1, 8, 8), torch.zeros(2, 2, 4, 4)])
