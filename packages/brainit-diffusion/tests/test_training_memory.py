"""The count of a training step's memory: by hand, and against what torch's profiler saw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from brainit_diffusion.memory import TrainingMemory, training_memory
from brainit_diffusion.objective import vector_condition
from brainit_diffusion.stage2 import Stage2, Stage2Config


def test_by_hand() -> None:
    """Two layers without bias [4, 4] on 1,000 rows, one of them frozen, and a buffer."""
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Sigmoid(), nn.Linear(4, 4, bias=False))
    model.register_buffer("kept", torch.zeros(10))
    model[2].requires_grad_(False)
    found = training_memory(model, lambda: model(torch.zeros(1000, 4)).sum(), average=True)
    matrix, rows = 4 * 4 * 4, 1000 * 4 * 4
    assert found == TrainingMemory(
        weights=2 * matrix + 40,
        gradients=matrix,
        optimiser=2 * matrix,
        average=matrix,
        # Its input, the sigmoid's output and, as the backward pass goes through that, two
        # gradients of rows; of the sums a scalar or two, and no gradient of weights yet.
        activations=pytest.approx(4 * rows, abs=2 * matrix),
    )
    assert found.total == sum(vars(found).values())
    assert str(found).splitlines()[-1].split() == ["total", f"{found.total / 2**30:.2f}", "GiB"]


def test_beside_earlier_gradients_one_is_there_at_a_time() -> None:
    """Three layers without bias [256, 256] on two rows: gradients are all that counts."""
    model = nn.Sequential(*(nn.Linear(256, 256, bias=False) for _ in range(3)))
    matrix, rows = 256 * 256 * 4, 2 * 256 * 4
    for accumulate, held in ((True, 3 + 1), (False, 3)):
        found = training_memory(
            model, lambda: model(torch.zeros(2, 256)).sum(), accumulate=accumulate
        )
        assert found.gradients == 3 * matrix
        # Rows: the input, two results, and gradients of two of them.
        total = found.gradients + found.activations
        assert total == pytest.approx(held * matrix, abs=6 * rows)


Build = Callable[..., tuple[Stage2, Callable[[], Tensor]]]


@pytest.fixture
def stage2(build_unet: Callable[[], Any]) -> Build:
    def build(**choice: Any) -> tuple[Stage2, Callable[[], Tensor]]:
        torch.manual_seed(0)
        model = Stage2(nn.Linear(8, 12), build_unet(), Stage2Config(**choice)).train()
        brain, latents = torch.zeros(4, 5, 8), torch.zeros(4, 4, 32, 32)
        generator = torch.Generator().manual_seed(0)
        time_ids = vector_condition(4, (8, 8))
        return model, lambda: model(brain, latents=latents, time_ids=time_ids, generator=generator)

    return build


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("unet", ["full", "frozen"])
def test_a_stage2_step_is_what_the_profiler_sees(
    unet: Any, checkpointing: bool, stage2: Build, measured: Any
) -> None:
    model, loss = stage2(unet=unet, gradient_checkpointing=checkpointing)
    truth = measured(lambda: torch.autograd.grad(loss(), model.trained()))
    with FakeTensorMode(allow_non_fake_inputs=True):
        without_memory = stage2(unet=unet, gradient_checkpointing=checkpointing)
    count = training_memory(*without_memory)
    # Kernels take scratch of their own, which shapes do not tell: 8 % of the smallest step here.
    assert 0.9 * truth < count.activations + count.gradients < 1.01 * truth
    assert vars(training_memory(model, loss)) == pytest.approx(vars(count), rel=1e-4)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_beside_earlier_gradients_is_what_the_profiler_sees(
    checkpointing: bool, stage2: Build, measured: Any
) -> None:
    model, loss = stage2(gradient_checkpointing=checkpointing)
    found = training_memory(model, loss, accumulate=True)
    loss().backward()
    truth = measured(lambda: loss().backward())
    # As above; of the gradients one or two are there at a time until they are added.
    assert 0.9 * truth < found.activations < 1.05 * truth


def test_checkpointing_and_freezing_spare_memory(stage2: Build) -> None:
    plain, kept, frozen = (
        training_memory(*stage2(unet=unet, gradient_checkpointing=checkpointing))
        for unet, checkpointing in (("full", False), ("full", True), ("frozen", True))
    )
    assert kept.activations < plain.activations / 2
    assert kept.weights == plain.weights == frozen.weights
    assert frozen.optimiser == 2 * frozen.gradients == 2 * 4 * (8 * 12 + 12)


def test_counting_changes_neither_the_model_nor_what_comes_next(stage2: Build) -> None:
    (_, undisturbed), (model, loss) = stage2(), stage2()
    training_memory(model, loss)
    assert torch.equal(loss(), undisturbed())
    assert all(p.grad is None for p in model.parameters())
