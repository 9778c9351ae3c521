"""A run of stage 2: memory first, then steps as by hand; learned unconditional tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from brainit_diffusion.memory import training_memory
from brainit_diffusion.objective import vector_condition
from brainit_diffusion.stage2 import Stage2, Stage2Config
from brainit_diffusion.training import Batch, train
from brainit_diffusion.unconditional import UnconditionalTokens


def batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    brain = torch.randn(3, 5, 8, generator=generator)
    latents = torch.randn(3, 4, 8, 8, generator=generator)
    return Batch((brain,), latents, vector_condition(3, (16, 16)))


BATCHES = [batch(seed) for seed in range(3)]


@pytest.fixture
def joined(build_unet: Callable[[], Any]) -> Callable[..., Stage2]:
    def build(learned: UnconditionalTokens | None = None, **choice: Any) -> Stage2:
        torch.manual_seed(0)
        return Stage2(nn.Linear(8, 12), build_unet(), Stage2Config(**choice), learned).train()

    return build


def loss_of(model: Stage2, given: Batch, generator: torch.Generator) -> Tensor:
    value: Tensor = model(
        *given.inputs, latents=given.latents, time_ids=given.time_ids, generator=generator
    )
    return value


def test_steps_are_those_of_adamw_over_the_mean_of_the_batches(joined: Any) -> None:
    model, other = joined(), joined()
    average = EMAModel(model.trained(), decay=0.5, min_decay=0.5)
    losses = list(
        train(
            model,
            BATCHES,
            learning_rate=1e-2,
            accumulate=2,
            average=average,
            seed=5,
            report=lambda _: None,
        )
    )
    optimiser = torch.optim.AdamW(other.trained(), lr=1e-2)
    generator, expected = torch.Generator().manual_seed(5), []
    for step in (BATCHES[:2], BATCHES[2:]):
        loss = torch.stack([loss_of(other, given, generator) for given in step]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        expected.append(loss.item())
    # Sums of two gradients in another order; Adam divides by their size.
    assert losses == pytest.approx(expected, rel=1e-5)
    for p, q in zip(model.trained(), other.trained(), strict=True):
        assert torch.allclose(p, q, atol=1e-4)
    assert average.optimization_step == 2


def test_memory_is_reported_before_anything_is_computed(joined: Any) -> None:
    model, events = joined(), []
    before = [p.detach().clone() for p in model.parameters()]
    expected = training_memory(
        model,
        lambda: loss_of(model, BATCHES[0], torch.Generator()),
        average=True,
        accumulate=True,
    )
    model.unet.register_forward_hook(
        lambda _, __, output: events.append(type(output[0]) is torch.Tensor)
    )
    average = EMAModel(model.trained())

    def report(text: str) -> None:
        assert all(map(torch.equal, model.parameters(), before))
        assert True not in events  # shapes alone have been through the UNet
        events.append(text)

    run = train(model, BATCHES, average=average, learning_rate=1e-2, report=report)
    assert not events
    next(run)
    assert [e for e in events if isinstance(e, str)] == [f"a step needs\n{expected}"]
    assert events[-1] is True
    assert not all(map(torch.equal, model.parameters(), before))


def test_a_loss_that_is_not_finite_takes_no_step(joined: Any) -> None:
    model = joined()
    before = [p.detach().clone() for p in model.parameters()]
    bad = BATCHES[0]._replace(inputs=(BATCHES[0].inputs[0] * torch.nan,))
    with pytest.raises(ValueError, match="the loss is nan, expected a finite one"):
        list(train(model, [bad], report=lambda _: None))
    assert all(map(torch.equal, model.parameters(), before))
    with pytest.raises(ValueError, match="at least one"):
        list(train(model, [], report=lambda _: None))


def test_unconditional_tokens_alone_learn_in_the_place_of_dropped_ones(joined: Any) -> None:
    torch.manual_seed(1)
    learned = UnconditionalTokens(5, 12)
    model = joined(learned, unet="frozen", decoder=False, dropout=0.9)
    assert [p.shape for p in model.trained()] == [(5, 12)]
    frozen = [p.detach().clone() for p in (*model.unet.parameters(), *model.decoder.parameters())]
    start, losses = learned.tokens.detach().clone(), []
    optimiser = torch.optim.AdamW(model.trained(), lr=0.1)
    for _ in range(20):
        loss = loss_of(model, BATCHES[0], torch.Generator().manual_seed(5))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    moved = (learned.tokens - start).detach()
    assert (moved.abs() > 0.01).any(1).all()
    # Not all in the same way, as tokens would that had begun equal.
    assert moved.std(0).min() > 1e-3
    now = [*model.unet.parameters(), *model.decoder.parameters()]
    assert all(map(torch.equal, now, frozen))


def test_unconditional_tokens_that_cannot_learn(joined: Any) -> None:
    with pytest.raises(ValueError, match="expected a dropout above 0"):
        joined(UnconditionalTokens(5, 12))
    with pytest.raises(ValueError, match="expected width 12, got 16"):
        joined(UnconditionalTokens(5, 16), dropout=0.5)
