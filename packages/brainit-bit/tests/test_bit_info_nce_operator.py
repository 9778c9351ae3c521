"""``brainit::info_nce`` as torch sees it, some rows of a logit matrix, and several processes."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from brainit_bit import info_nce, multi_scale_info_nce
from brainit_bit.ops.info_nce.cpu import COLUMNS, ROWS, _tile_shares
from brainit_bit.ops.info_nce.reference import info_nce_reference

OPERATOR = torch.ops.brainit.info_nce
WORKER = Path(__file__).with_name("gloo_info_nce.py")


def features(n_rows: int, n_columns: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(n_rows)
    shapes = ((n_rows, 6), (n_columns, 6))
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes]


@pytest.mark.parametrize(
    ("n_rows", "n_columns", "first"), [(ROWS + 9, 2 * COLUMNS + 172, 31), (1, 1, 0)]
)
def test_some_rows_of_a_logit_matrix(n_rows: int, n_columns: int, first: int) -> None:
    pair = [tensor.requires_grad_() for tensor in features(n_rows, n_columns)]
    logits = pair[0] @ pair[1].T
    truth = (logits.diagonal(first)[:n_rows], logits.logsumexp(1), logits.logsumexp(0))
    found = OPERATOR(*pair, first)
    seeds = [torch.linspace(-1, 2, len(part), dtype=torch.float64).cos() for part in truth]
    for one, other in zip(found, truth, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    for one, other in zip(
        torch.autograd.grad(found, pair, seeds),
        torch.autograd.grad(truth, pair, seeds),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("scale", "offset"), [(1.0, 0.0), (6.0, 0.0), (20.0, 0.0), (0.1, 12.0)], ids=str
)
def test_log_sum_exps_of_near_far_and_distant_logits(scale: float, offset: float) -> None:
    """Logits near zero, spread widely (up to some thousands), and close to each other at 860."""
    pair = [scale * part + offset for part in features(50, 60, torch.float32)]
    exact = [part.double() for part in pair]
    logits = exact[0] @ exact[1].T
    _, rows, columns = OPERATOR(*pair, 0)
    # A logit rounds in six products and sums of at most this size, a log-sum-exp twice more.
    largest = float(exact[0].norm(dim=1).max() * exact[1].norm(dim=1).max())
    tolerance = 8 * torch.finfo(torch.float32).eps * max(largest, 1)
    for found, dim in ((rows, 1), (columns, 0)):
        assert (found.double() - logits.logsumexp(dim)).abs().max() <= tolerance


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_opcheck(dtype: torch.dtype) -> None:
    for gradient in (False, True):
        pair = [tensor.requires_grad_(gradient) for tensor in features(5, 9, dtype)]
        torch.library.opcheck(OPERATOR, (*pair, 3))


@pytest.mark.parametrize("with_target", [False, True])
def test_opcheck_backward(with_target: bool) -> None:
    pair = [tensor.T.contiguous().T for tensor in features(5, 9)]
    positives, rows, columns = OPERATOR(*pair, 3)
    torch.library.opcheck(
        torch.ops.brainit.info_nce_backward,
        (positives, rows, columns, *pair, rows, columns, 3, with_target),
    )


@pytest.mark.parametrize("spread", [1.0, 8.0, 12.0, 40.0])
@pytest.mark.parametrize("known", [True, False], ids=["short rows", "rows of any length"])
def test_gradients_of_wide_logits_hold_no_subnormal_numbers(spread: float, known: bool) -> None:
    """Subnormal shares made the products of a backward pass some twenty times slower.

    Against both softmaxes in fp64; logits up to 200 carry rounding of 200 eps into an exponential.
    """
    generator = torch.Generator().manual_seed(0)
    logits = spread * torch.randn(60, 50, generator=generator)
    wide = logits.double()
    lse = [wide.logsumexp(dim, keepdim=True) for dim in (1, 0)]
    truth = ((wide - lse[0]).exp() + (wide - lse[1]).exp()) / 60
    of_row = lse[0].float(), torch.full((60, 1), 1 / 60)
    of_column = lse[1][0].float(), torch.full((50,), 1 / 60)
    reach = logits.abs().amax() if known else torch.tensor(torch.inf)
    shares = _tile_shares(logits, reach, of_row, of_column, torch.empty(60, 50))
    torch.testing.assert_close(shares.double(), truth, rtol=200 * 2**-22, atol=1e-30)
    assert not ((shares != 0) & (shares.abs() < torch.finfo(torch.float32).tiny)).any()


def test_backward_inside_autocast() -> None:
    pair = [tensor.requires_grad_() for tensor in features(40, 40, torch.float32)]
    expected = torch.autograd.grad(info_nce(*pair), pair)
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(info_nce(*pair), pair)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_second_derivative_is_refused() -> None:
    pair = [tensor.requires_grad_() for tensor in features(4, 4)]
    grad = torch.autograd.grad(info_nce(*pair), pair[0], create_graph=True)[0]
    with pytest.raises(RuntimeError, match="differentiated once"):
        grad.square().sum().backward()


def test_compiles_whole_for_any_number_of_rows() -> None:
    compiled = torch.compile(info_nce, fullgraph=True, dynamic=True, backend="aot_eager")
    for n_rows in (4, 7):
        pair = [tensor.requires_grad_() for tensor in features(n_rows, n_rows)]
        ours, truth = compiled(*pair), info_nce_reference(*pair)
        torch.testing.assert_close(ours, truth, rtol=1e-12, atol=1e-12)
        for one, other in zip(
            torch.autograd.grad(ours, pair), torch.autograd.grad(truth, pair), strict=True
        ):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_two_processes_find_the_loss_of_one(tmp_path: Path) -> None:
    """Both report the joint loss; gradients averaged over processes are those of the joint loss."""
    worker = runpy.run_path(str(WORKER))
    second = subprocess.Popen([sys.executable, str(WORKER), "1", str(tmp_path)])
    try:
        worker["run"](0, tmp_path)
        assert second.wait(timeout=100) == 0
    finally:
        second.kill()
    parts = [load_file(tmp_path / f"rank{rank}.safetensors") for rank in range(2)]

    inputs, target, weight = worker["problem"]()
    predicted = inputs @ weight
    loss = info_nce_reference(predicted, target)
    grads = torch.autograd.grad(loss, (predicted, target, weight))
    images = predicted.detach().view(4, 3, 4), target.detach().view(4, 3, 4)
    scales = multi_scale_info_nce(*images, torch.tensor([0, 1, 0]))
    close = {"rtol": 1e-12, "atol": 1e-12}
    for part in parts:
        assert part["refused"]
        torch.testing.assert_close(part["loss"], loss.detach(), **close)
        torch.testing.assert_close(part["scales"], scales, **close)
    for name, grad in zip(("predicted", "target"), grads, strict=False):
        rows = torch.cat([part[name] for part in parts])
        torch.testing.assert_close(rows / 2, grad, **close)
    averaged = (parts[0]["weight"] + parts[1]["weight"]) / 2
    torch.testing.assert_close(averaged, grads[2], **close)
