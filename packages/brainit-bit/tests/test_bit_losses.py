"""InfoNCE in tiles against the whole logit matrix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from brainit_bit import info_nce, multi_scale_info_nce
from brainit_bit.ops.info_nce.cpu import ROWS as TILE_ROWS
from brainit_bit.ops.info_nce.reference import info_nce_reference

ROWS = 2 * TILE_ROWS + 37  # whole tiles and a part of one


def features(rows: int, scale: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    target = torch.randn(rows, 16, generator=generator, dtype=torch.float64)
    predicted = 0.5 * target + torch.randn(rows, 16, generator=generator, dtype=torch.float64)
    return (
        (predicted * scale).to(dtype).requires_grad_(),
        (target * scale).to(dtype).requires_grad_(),
    )


# Logits reach some 10 at scale 0.7 and some thousand, past any one exponential, at scale 10.
@pytest.mark.parametrize("scale", [0.7, 10.0])
@pytest.mark.parametrize("rows", [1, 5, ROWS])
def test_equals_naive_form_in_fp64(rows: int, scale: float) -> None:
    pair = features(rows, scale, torch.float64)
    ours, truth = info_nce(*pair), info_nce_reference(*pair)
    torch.testing.assert_close(ours, truth, rtol=1e-12, atol=1e-12)
    for one, other in zip(
        torch.autograd.grad(ours, pair), torch.autograd.grad(truth, pair), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("scale", [0.7, 10.0])
def test_fp32_rounding(scale: float) -> None:
    pair = features(ROWS, scale, torch.float32)
    exact = tuple(tensor.detach().double().requires_grad_() for tensor in pair)
    ours, truth = info_nce(*pair), info_nce_reference(*exact)
    # A logit's rounding, |logit| times (D + 1) eps, goes straight into the loss and, as a relative
    # error, into every probability; the sums over rows add ROWS eps.
    largest = float((exact[0] @ exact[1].T).detach().abs().max())
    tolerance = (17 * largest + ROWS) * torch.finfo(torch.float32).eps
    assert abs(ours.item() - truth.item()) < tolerance
    for one, other in zip(
        torch.autograd.grad(ours, pair), torch.autograd.grad(truth, exact), strict=True
    ):
        assert (one - other).norm() < tolerance * other.norm()


def test_gradcheck() -> None:
    pair = features(6, 0.7, torch.float64)
    assert torch.autograd.gradcheck(info_nce, pair)


def test_memory_is_linear_in_rows() -> None:
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        info_nce(*features(ROWS, 0.7, torch.float32))
    assert kept
    assert max(kept) <= ROWS * 16


def test_target_alone_without_gradient() -> None:
    predicted, target = features(40, 0.7, torch.float64)
    info_nce(predicted, target.detach()).backward()
    assert predicted.grad is not None
    expected = torch.autograd.grad(info_nce_reference(predicted, target), predicted)[0]
    torch.testing.assert_close(predicted.grad, expected)


def test_bfloat16_input_is_computed_in_fp32() -> None:
    predicted, target = features(300, 0.7, torch.bfloat16)
    loss = info_nce(predicted, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, info_nce_reference(predicted.float(), target.float()))
    loss.backward()
    assert predicted.grad is not None
    assert predicted.grad.dtype == torch.bfloat16


def test_levels_stay_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    predicted, target = torch.randn(2, 4, 6, 8, generator=generator, dtype=torch.float64)
    levels = torch.tensor([2, 0, 2, 0, 0, 5])
    expected = sum(
        info_nce_reference(
            torch.cat([predicted[:, q] for q in chosen]), torch.cat([target[:, q] for q in chosen])
        )
        for chosen in ([1, 3, 4], [0, 2], [5])
    )
    torch.testing.assert_close(multi_scale_info_nce(predicted, target, levels), expected / 3)


@pytest.mark.parametrize("shapes", [((3, 4), (3, 5)), ((0, 4), (0, 4)), ((4,), (4,))])
def test_shapes_that_disagree(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="info_nce"):
        info_nce(torch.zeros(shapes[0]), torch.zeros(shapes[1]))


def test_levels_of_another_length() -> None:
    with pytest.raises(ValueError, match="levels"):
        multi_scale_info_nce(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), torch.zeros(2))
