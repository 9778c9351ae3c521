"""Attention maps, lesions and gradient times input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brainit_bit import BITConfig, BrainInteractionTransformer
from brainit_bit.interpretation import (
    attention_maps,
    cluster_totals,
    gradient_times_input,
    lesion_clusters,
    lesion_voxels,
    on_voxels,
)

CONFIG = BITConfig(n_clusters=6, dim=16, n_heads=4, n_rounds=2, n_query_tokens=10, output_dim=5)
# Unsorted, so that the subject's order is not the model's; cluster 4 has one voxel, cluster 5 none.
LABELS = [3, 0, 2, 1, 4, 3, 3, 0, 2, 2, 1, 0]
N = len(LABELS)


@pytest.fixture
def model() -> BrainInteractionTransformer:
    torch.manual_seed(0)
    model = BrainInteractionTransformer(CONFIG)
    model.add_subject("subj01", LABELS)
    for parameter in model.parameters():  # away from the near-uniform start
        nn.init.normal_(parameter, std=0.5)
    return model.double()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(5, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_attention_maps_are_means_over_images(
    model: BrainInteractionTransformer, x: Tensor
) -> None:
    singles = [model(one[None], "subj01", return_attention=True).attention for one in x]
    expected = np.mean([[m.detach()[0].mean(0).numpy() for m in maps] for maps in singles], 0)
    for batch_size in (2, 5):  # the last batch of two is a single image
        maps = attention_maps(model, x, "subj01", batch_size=batch_size)
        np.testing.assert_allclose(maps, expected, rtol=1e-12)
    assert maps.shape == (3, 10, 6)
    np.testing.assert_allclose(maps.sum(-1), 1, rtol=1e-12)
    some = attention_maps(model, x, "subj01", torch.tensor([7, 2]))
    np.testing.assert_allclose(some, maps[:, [7, 2]], rtol=1e-12)


def test_first_map_is_the_softmax_of_tokens_and_keys(
    model: BrainInteractionTransformer, x: Tensor
) -> None:
    block = model.cross_transformer.cross_blocks[0]
    tokens = model.tokenizer(x[:1], model.voxels("subj01"))[0]
    keys = block.norm(tokens) @ block.key_value.weight[:16].T
    heads = [model.query_tokens[:, i : i + 4] @ keys[:, i : i + 4].T / 2 for i in range(0, 16, 4)]
    expected = torch.stack(heads).softmax(-1).mean(0)
    first = attention_maps(model, x[:1], "subj01")[0]
    np.testing.assert_allclose(first, expected.detach(), rtol=1e-10)


def test_a_lesion_is_a_subject_without_these_voxels(
    model: BrainInteractionTransformer, x: Tensor
) -> None:
    lesions = [[1, 6], [4], [0, 5, 6], []]
    changes = lesion_voxels(model, x, "subj01", lesions, batch_size=2)
    whole, intact = model.voxels("subj01"), model(x, "subj01").features
    for lesion, change in zip(lesions, changes, strict=True):
        left = [v for v in range(N) if v not in lesion]
        model.add_subject("lesioned", whole.labels[left], whole.by_voxel()[left])
        voxels = model.voxels("lesioned").double()
        voxels.embedding.data = whole.by_voxel()[left][voxels.order]
        without = model(x[:, left], "lesioned").features
        model.remove_subject("lesioned")
        expected = (without - intact).square().mean((0, 2)).detach()
        np.testing.assert_allclose(change, expected, rtol=1e-9, atol=1e-20)
    assert changes.shape == (4, 10)
    assert (changes[:3] > 0).all()
    assert (changes[3] == 0).all()


def test_lesion_of_a_cluster_is_zero_multiplicity_of_its_voxels(
    model: BrainInteractionTransformer, x: Tensor
) -> None:
    changes = lesion_clusters(model, x, "subj01", torch.tensor([9, 0, 3]), batch_size=2)
    intact = model(x, "subj01").features
    for c in range(6):
        drawn = torch.tensor([float(label != c) for label in LABELS]).expand(5, -1)
        lesioned = model(x, "subj01", multiplicity=drawn).features
        expected = (lesioned - intact).square().mean((0, 2)).detach()[[9, 0, 3]]
        np.testing.assert_allclose(changes[c], expected, rtol=1e-9, atol=1e-25)
    assert (changes[5] == 0).all()  # no voxel, no change
    assert (changes[:5] > 0).all()


def test_gradient_times_input_equals_finite_differences(
    model: BrainInteractionTransformer, x: Tensor
) -> None:
    direction = torch.randn(5, dtype=torch.float64)

    def score(features: Tensor) -> Tensor:
        return (features @ direction)[:, 1] + features.square().sum((1, 2))

    queries = torch.tensor([2, 8])
    result = gradient_times_input(model, x, "subj01", score, queries, batch_size=2)
    assert result.shape == (5, N)
    assert all(parameter.grad is None for parameter in model.parameters())
    step = 1e-5
    for voxel in range(N):
        moved = torch.zeros(N, dtype=torch.float64)
        moved[voxel] = step
        up, down = (
            score(model(x + s * moved, "subj01", queries=queries).features) for s in (1, -1)
        )
        expected = x[:, voxel] * (up - down).detach() / (2 * step)
        # Central differences err by step^2 times a third derivative, and by 1e-16 / step.
        np.testing.assert_allclose(result[:, voxel], expected, rtol=1e-5, atol=1e-6)


def test_gradient_times_input_of_a_linear_model_is_its_contributions(
    model: BrainInteractionTransformer, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = torch.randn(N, 10 * 5, dtype=torch.float64)
    linear = type(model(x, "subj01"))
    monkeypatch.setattr(
        model,
        "forward",
        lambda x, subject, queries: linear((x @ weight).unflatten(1, (10, 5)), None),
    )
    result = gradient_times_input(model, x, "subj01", lambda features: features.sum((1, 2)))
    np.testing.assert_allclose(result, x * weight.sum(1), rtol=1e-12)


def test_works_where_gradients_are_off(model: BrainInteractionTransformer, x: Tensor) -> None:
    model.requires_grad_(False)
    with torch.no_grad():
        result = gradient_times_input(model, x, "subj01", lambda features: features.sum((1, 2)))
    assert np.abs(result).sum() > 0


def test_values_by_cluster_and_by_voxel(model: BrainInteractionTransformer) -> None:
    totals = cluster_totals(model, "subj01", np.arange(2 * N).reshape(2, N))
    expected = [
        [sum(r * N + v for v in range(N) if LABELS[v] == c) for c in range(6)] for r in (0, 1)
    ]
    assert totals.tolist() == expected
    painted = on_voxels(model, "subj01", [[0, 10, 20, 30, 40, 50]])
    assert painted.tolist() == [[10 * label for label in LABELS]]


def test_input_that_does_not_fit(model: BrainInteractionTransformer, x: Tensor) -> None:
    with pytest.raises(ValueError, match="n >= 1"):
        attention_maps(model, x[:0], "subj01")
    for lesion in ([N], [-1], [0.5], [[0]]):
        with pytest.raises(ValueError, match=r"voxels in \[0, 12\)"):
            lesion_voxels(model, x, "subj01", [lesion])
    with pytest.raises(ValueError, match="at least one"):
        lesion_voxels(model, x, "subj01", [])
    with pytest.raises(ValueError, match=r"score: expected \[5\], got \[5, 10, 5\]"):
        gradient_times_input(model, x, "subj01", lambda features: features)
    with pytest.raises(ValueError, match=r"expected \[..., 12\]"):
        cluster_totals(model, "subj01", np.ones(6))
    with pytest.raises(ValueError, match=r"expected \[..., 6\]"):
        on_voxels(model, "subj01", np.ones(12))
    with pytest.raises(ValueError, match="unknown subject"):
        lesion_clusters(model, x, "subj09")
