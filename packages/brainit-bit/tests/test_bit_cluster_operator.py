"""``brainit::cluster_context`` as torch sees it: registration, compilation, second derivatives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from brainit_bit.ops.cluster_attention import cluster_attention

SIZES = [3, 0, 1, 4]
CONTEXT = torch.ops.brainit.cluster_context


def arguments(dtype: torch.dtype = torch.float64, batch: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Activations, embedding and query."""
    generator = torch.Generator().manual_seed(batch)
    shapes = ((batch, sum(SIZES)), (sum(SIZES), 5), (len(SIZES), 5))
    activations, embedding, query = (torch.randn(s, generator=generator) for s in shapes)
    return activations.to(dtype), embedding.to(dtype), query.to(dtype)


def counts(batch: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randint(0, 3, (batch, sum(SIZES)), generator=generator)
    drawn[0, :3] = 0  # nothing of the first cluster in the first sample
    return drawn


@pytest.mark.parametrize(
    ("dtype", "drawn", "layout"),
    [
        (torch.float64, False, "contiguous"),
        (torch.float32, True, "permuted"),
        (torch.bfloat16, True, "contiguous"),
    ],
)
def test_opcheck(dtype: torch.dtype, drawn: bool, layout: str) -> None:
    tensors = arguments(dtype)
    if layout == "permuted":
        tensors = tuple(tensor.T.contiguous().T for tensor in tensors)
    for gradient in (False, True):
        inputs = tuple(tensor.detach().requires_grad_(gradient) for tensor in tensors)
        multiplicity = counts().to(dtype) if drawn else None
        torch.library.opcheck(CONTEXT, (*inputs, multiplicity, SIZES))


@pytest.mark.parametrize("with_activations", [False, True])
def test_opcheck_backward(with_activations: bool) -> None:
    tensors = arguments()
    context, _, weights, slope = CONTEXT(*tensors, counts().double(), SIZES)
    grad = torch.ones_like(context).transpose(1, 2).contiguous().transpose(1, 2)
    torch.library.opcheck(
        torch.ops.brainit.cluster_context_backward,
        (grad, *tensors, weights, slope, SIZES, with_activations),
    )


def test_no_voxel_at_all() -> None:
    query = torch.randn(2, 5, requires_grad=True)
    context, occupied, _, _ = CONTEXT(torch.zeros(2, 0), torch.zeros(0, 5), query, None, [0, 0])
    assert context.eq(0).all()
    assert occupied.eq(0).all()
    context.sum().backward()
    assert query.grad is not None
    assert query.grad.eq(0).all()


def test_only_the_context_is_differentiable() -> None:
    inputs = [tensor.requires_grad_() for tensor in arguments()]
    required = [tensor.requires_grad for tensor in CONTEXT(*inputs, None, SIZES)]
    assert required == [True, False, False, False]


def test_second_derivative_is_refused() -> None:
    inputs = [tensor.requires_grad_() for tensor in arguments()]
    context = CONTEXT(*inputs, None, SIZES)[0]
    grad = torch.autograd.grad(context.square().sum(), inputs[1], create_graph=True)[0]
    with pytest.raises(RuntimeError, match="differentiated once"):
        grad.sum().backward()


def test_compiles_whole_for_any_batch() -> None:
    """One graph without a break serves every batch, and its numbers are those of eager torch."""
    width = 5
    weight = torch.eye(width, dtype=torch.float64)
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    def attend(activations: Tensor, embedding: Tensor, query: Tensor, drawn: Tensor) -> Tensor:
        return cluster_attention(
            activations, embedding, SIZES, query, weight, weight, weight[0], drawn
        )

    traced = torch.compile(attend, fullgraph=True, dynamic=True, backend=backend)
    compiled = torch.compile(attend, fullgraph=True, dynamic=True, backend="aot_eager")
    for batch in (3, 5, 2):
        inputs = [tensor.requires_grad_() for tensor in arguments(batch=batch)]
        eager = attend(*inputs, counts(batch))
        expected = torch.autograd.grad(eager.square().sum(), inputs)
        torch.testing.assert_close(traced(*inputs, counts(batch)), eager, rtol=0, atol=0)
        output = compiled(*inputs, counts(batch))
        torch.testing.assert_close(output, eager, rtol=0, atol=0)
        found = torch.autograd.grad(output.square().sum(), inputs)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert len(graphs) == 1
