"""The whole model on a GPU against the CPU in fp64; skipped where there is none."""

from __future__ import annotations

import pytest
import torch
from small_model import activations, gradients, make_model
from torch import Tensor

from brainit_bit import draw_voxels, multi_scale_info_nce

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA or HIP device"),
]


def trained_step(
    device: str, dtype: torch.dtype = torch.float32, low: bool = False
) -> list[Tensor]:
    """Loss and gradients of drawn voxels by the contrastive loss, on the CPU in fp64."""
    model = make_model(dtype).to(device)
    drawn = draw_voxels(40, 30, 3, torch.Generator().manual_seed(0)).to(device, dtype)
    target = torch.randn(3, 10, 5, generator=torch.Generator().manual_seed(1)).to(device, dtype)
    with torch.autocast(device, torch.bfloat16, enabled=low):
        features = model(activations(dtype=dtype).to(device), "subj01", drawn).features
    levels = torch.tensor([0] * 6 + [1] * 4, device=device)
    loss = multi_scale_info_nce(features.to(dtype), target, levels)
    loss.backward()
    found = gradients(model)
    return [loss.detach().cpu().double(), *(found[name].cpu().double() for name in sorted(found))]


@pytest.mark.parametrize("low", [False, True], ids=["fp32", "bf16"])
def test_a_step_equals_the_cpus(low: bool) -> None:
    truth = trained_step("cpu", torch.float64)
    usual, found = trained_step("cpu", low=low), trained_step("cuda", low=low)
    eps = 2**-9 if low else torch.finfo(torch.float32).eps
    for exact, plain, ours in zip(truth, usual, found, strict=True):
        # As exact as the CPU in the same precision, up to luck and a few roundings.
        bound = 4 * (plain - exact).norm() + 8 * eps * exact.norm()
        assert (ours - exact).norm() <= bound


def test_two_steps_are_equal_to_the_bit() -> None:
    one, other = trained_step("cuda"), trained_step("cuda")
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_compiled_step_equals_the_eager_one() -> None:
    model, x = make_model().to("cuda"), activations().to("cuda")
    compiled = torch.compile(model, fullgraph=True)
    torch.testing.assert_close(compiled(x, "subj01").features, model(x, "subj01").features)
