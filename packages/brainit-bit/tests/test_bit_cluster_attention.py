"""The algebraic cluster attention against the graph form, forward and every gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from brainit_bit.ops.cluster_attention import cluster_attention
from brainit_bit.ops.cluster_attention.reference import cluster_attention_reference

DIM = 12
CASES = {
    "even": [7, 7, 7, 7],
    "empty and single": [0, 1, 5, 0, 1, 0],
    "very uneven": [1, 190, 2, 0, 7],
    "one cluster": [9],
}


def problem(sizes: list[int], dtype: torch.dtype, scale: float = 1.0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(sum(sizes))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    n_voxels = sum(sizes)
    tensors = {
        "activations": normal(3, n_voxels) * scale,
        "embedding": normal(n_voxels, DIM),
        "query": normal(len(sizes), DIM),
        "key_weight": normal(DIM, DIM) / DIM**0.5,
        "value_weight": normal(DIM, DIM) / DIM**0.5,
        "value_bias": normal(DIM),
    }
    return {name: tensor.to(dtype).requires_grad_() for name, tensor in tensors.items()}


def multiplicity(sizes: list[int]) -> Tensor:
    """Zeros, ones and repeats; the largest cluster is not drawn at all in the first sample."""
    generator = torch.Generator().manual_seed(1)
    counts = torch.randint(0, 4, (3, sum(sizes)), generator=generator)
    counts[
        0,
        torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        == int(torch.tensor(sizes).argmax()),
    ] = 0
    return counts


def both(
    sizes: list[int], tensors: dict[str, Tensor], drawn: Tensor | None
) -> tuple[list[Tensor], list[Tensor]]:
    """Output and all gradients of the algebraic form and of the graph form."""
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    # A key bias leaves the softmax: the algebraic form has none, the graph form a large one.
    bias = torch.linspace(-5, 5, DIM, dtype=tensors["query"].dtype)
    algebraic = cluster_attention(**tensors, sizes=sizes, multiplicity=drawn)
    graph = cluster_attention_reference(**tensors, labels=labels, key_bias=bias, multiplicity=drawn)
    seed = torch.linspace(-1, 1, graph.numel(), dtype=graph.dtype).sin().view_as(graph)
    inputs = list(tensors.values())
    return (
        [algebraic, *torch.autograd.grad(algebraic, inputs, seed)],
        [graph, *torch.autograd.grad(graph, inputs, seed)],
    )


def error(ours: Tensor, truth: Tensor) -> float:
    ours, truth = ours.detach().double(), truth.detach().double()
    return float((ours - truth).norm() / truth.norm().clamp_min(1e-12))


@pytest.mark.parametrize("drawn", [False, True], ids=["all", "drawn"])
@pytest.mark.parametrize("case", CASES)
def test_equals_graph_form_in_fp64(case: str, drawn: bool) -> None:
    sizes = CASES[case]
    ours, truth = both(sizes, problem(sizes, torch.float64), multiplicity(sizes) if drawn else None)
    for one, other in zip(ours, truth, strict=True):
        # Some hundred terms at eps 2e-16, amplified by cancellation in the softmax backward.
        assert (one - other).abs().max() <= 1e-11 * (1 + other.abs().max())


@pytest.mark.parametrize("case", CASES)
def test_fp32_rounding(case: str) -> None:
    sizes = CASES[case]
    ours, _ = both(sizes, problem(sizes, torch.float32), multiplicity(sizes))
    exact = {
        name: tensor.detach().double().requires_grad_()
        for name, tensor in problem(sizes, torch.float32).items()
    }
    _, truth = both(sizes, exact, multiplicity(sizes))
    # Worst case of a sum of n products: n eps; the longest runs over all voxels, then over D.
    tolerance = (sum(sizes) + 2 * DIM) * torch.finfo(torch.float32).eps
    for one, other in zip(ours, truth, strict=True):
        assert error(one, other) < tolerance


def test_huge_scores_pick_the_largest() -> None:
    sizes = CASES["very uneven"]
    tensors = problem(sizes, torch.float64, scale=1e6)
    ours, truth = both(sizes, tensors, multiplicity(sizes))
    # Scores near 1e6 carry an absolute rounding error of 1e6 eps into the softmax.
    for one, other in zip(ours, truth, strict=True):
        assert error(one, other) < 1e-8
    single = {name: tensor.detach().float() for name, tensor in tensors.items()}
    assert cluster_attention(**single, sizes=sizes).isfinite().all()


def test_repeated_draw_is_a_repeated_voxel() -> None:
    tensors = problem([2, 1], torch.float64)
    twice = torch.tensor([[1, 2, 1]] * 3)
    copied = dict(tensors)
    copied["activations"] = tensors["activations"][:, [0, 1, 1, 2]]
    copied["embedding"] = tensors["embedding"][[0, 1, 1, 2]]
    torch.testing.assert_close(
        cluster_attention(**tensors, sizes=[2, 1], multiplicity=twice),
        cluster_attention(**copied, sizes=[3, 1]),
        rtol=1e-12,
        atol=1e-12,
    )


def test_gradcheck() -> None:
    sizes = [3, 0, 1, 4]
    tensors = problem(sizes, torch.float64)
    drawn = torch.tensor([[1, 0, 2, 1, 1, 3, 0, 1], [0, 0, 0, 1, 1, 1, 1, 1], [1] * 8])

    def function(*inputs: Tensor) -> Tensor:
        return cluster_attention(
            **dict(zip(tensors, inputs, strict=True)), sizes=sizes, multiplicity=drawn
        )

    assert torch.autograd.gradcheck(function, tuple(tensors.values()))


def test_keeps_nothing_of_size_batch_voxels_width() -> None:
    sizes = [40, 60]
    tensors = problem(sizes, torch.float32)
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        cluster_attention(**tensors, sizes=sizes)
    assert kept
    assert max(kept) <= sum(sizes) * DIM  # the embedding itself; B x N x D is three times that


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": [3, 3]}, "summing to 8"),
        ({"sizes": [8]}, "2 cluster sizes"),
        ({"activations": torch.zeros(3, 7)}, r"expected \[B, 8\]"),
        ({"multiplicity": torch.ones(3, 7)}, "multiplicity"),
    ],
)
def test_shapes_that_disagree(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {**problem([3, 5], torch.float32), "sizes": [3, 5]}
    with pytest.raises(ValueError, match=message):
        cluster_attention(**{**arguments, **change})  # type: ignore[arg-type]
