"""The engine: it learns, steps are the mean of their batches, bad numbers stop before an update."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy import CONFIG, ToyTask

from brainit.checkpoint import LAST, load_checkpoint
from brainit.engine import TrainingStopped, train
from brainit.schedule import Schedule


class PlainTask(ToyTask):
    """The same without dropout, so that a step's batches run side by side; equal batches."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 1))

    def epoch(self, number: int) -> Sequence[tuple[int, int, Tensor]]:
        rows = torch.randperm(40, generator=torch.Generator().manual_seed(number))
        return [(number, index, part) for index, part in enumerate(rows.split(self.size))]

    size = 5


def test_batches_side_by_side_equal_one_large_batch(tmp_path: Path) -> None:
    small, large = PlainTask(), PlainTask()
    large.size = 10
    large.module.load_state_dict(small.module.state_dict())
    train(small, replace(CONFIG, accumulate=2), tmp_path / "small", seed=1)
    train(large, CONFIG, tmp_path / "large", seed=1)
    # The same sums in another order: fp32 rounding of 20 steps at a rate of 1e-2.
    for name, value in large.module.state_dict().items():
        torch.testing.assert_close(small.module.state_dict()[name], value, rtol=0, atol=1e-4)


def test_trainings_of_two_precisions_share_a_process(tmp_path: Path) -> None:
    for precision in ("no", "bf16"):
        best = train(ToyTask(), replace(CONFIG, precision=precision), tmp_path / precision, seed=1)
        assert best["score"] > -10


def test_training_learns_and_keeps_the_best(tmp_path: Path) -> None:
    task = ToyTask()
    before = task.validate()["score"]
    best = train(task, replace(CONFIG, epochs=30), tmp_path, seed=1)
    task.module.eval()
    assert task.validate() == best
    assert best["score"] > before / 4


class BadTask(ToyTask):
    """Meets a bad number, in the loss or in the gradient alone, in one batch."""

    def __init__(self, where: str, value: float, at: tuple[int, int]) -> None:
        super().__init__()
        self.where, self.value, self.at = where, value, at

    def loss(self, batch: tuple[int, int, Tensor]) -> Tensor:
        loss = super().loss(batch)
        if batch[:2] != self.at:
            return loss
        if self.where == "loss":
            return loss * self.value
        loss.register_hook(lambda gradient: gradient * self.value)
        return loss


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Last checkpoints of trainings in both precisions that met no fault."""
    contents = {}
    for precision in ("no", "bf16"):
        folder = tmp_path_factory.mktemp(precision)
        train(ToyTask(), replace(CONFIG, precision=precision), folder, seed=1)
        contents[precision] = (folder / LAST).read_bytes()
    return contents


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("at", [(0, 0), (2, 3), (4, 4)])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_bad_numbers_stop_before_the_update(
    tmp_path: Path,
    where: str,
    value: float,
    at: tuple[int, int],
    precision: str,
    unbroken: dict[str, bytes],
) -> None:
    config = replace(CONFIG, precision=precision)
    task, kept = BadTask(where, value, at), ToyTask()
    what = f"loss is {value}" if where == "loss" else r"gradient norm is (nan|inf)"
    epoch, step = at
    with pytest.raises(
        TrainingStopped,
        match=rf"toy: {what} in epoch {epoch + 1}, step {step + 1}, from \({epoch}, {step}, tensor",
    ):
        train(task, config, tmp_path, seed=1)
    # The weights are those before the step, the checkpoint is the last epoch's, and from it a
    # training without the fault ends as if there had been none.
    assert all(value.isfinite().all() for value in task.module.state_dict().values())
    if epoch:
        assert load_checkpoint(tmp_path / LAST, kept.module)["epoch"] == epoch
    train(kept, config, tmp_path, seed=1)
    assert (tmp_path / LAST).read_bytes() == unbroken[precision]


def test_the_message_of_a_bad_gradient_names_all_batches_of_the_step(tmp_path: Path) -> None:
    with pytest.raises(TrainingStopped, match=r"from \(1, 2, tensor\(.*; \(1, 3, tensor\("):
        train(
            BadTask("gradient", math.nan, (1, 3)), replace(CONFIG, accumulate=2), tmp_path, seed=1
        )


def test_long_gradients_are_clipped_to_the_norm(tmp_path: Path) -> None:
    norms = []

    class Watched(PlainTask):
        def validate(self) -> dict[str, float]:
            norms.append(
                float(torch.cat([p.grad.flatten() for p in self.module.parameters()]).norm())
            )
            return super().validate()

    for clip in (0.0, 0.01):
        train(Watched(), replace(CONFIG, epochs=1, clip_norm=clip), tmp_path / str(clip), seed=1)
    assert norms[0] > 0.1
    assert norms[1] == pytest.approx(0.01, rel=1e-3)


def test_warm_up_follows_the_published_formula() -> None:
    schedule = Schedule(replace(CONFIG, warmup_epochs=15, schedule="plateau", patience=1))
    for epoch in (0, 7.5, 14):
        assert schedule.factor(epoch) == pytest.approx(1e-3 + (1 - 1e-3) * (epoch / 15) ** 3)
    assert schedule.factor(15) == 1
    for score in (1.0, 0.5, 0.5):
        schedule.record(score)
    assert schedule.factor(16) == pytest.approx(0.1)


def test_cosine_ends_at_zero() -> None:
    schedule = Schedule(CONFIG)
    assert schedule.factor(3) == pytest.approx(0.5)
    assert schedule.factor(5) == pytest.approx(0, abs=1e-12)


class LeavingTask(ToyTask):
    """Casts one weight twice a batch; between both, the other batch's thread leaves autocast."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Linear(64, 64, bias=False)
        self.x = torch.randn(32, 64)
        self.left = Event()

    def epoch(self, number: int) -> Sequence[Any]:
        return [0, 1]

    def loss(self, batch: Any) -> Tensor:
        once = self.module(self.x[batch::2])
        if batch == 0:
            assert self.left.wait(60)
        loss = self.module(once).float().square().mean()
        # Gradients are taken outside autocast.
        loss.register_hook(lambda _: self.left.set())
        return loss

    def validate(self) -> dict[str, float]:
        return {"score": 0.0}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Operators split work by the number of threads, and the engine's own threads have one each."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_threads_do_not_change_each_others_rounding(tmp_path: Path) -> None:
    """As if the batches had come one after the other, bit for bit, in bfloat16."""
    config = replace(CONFIG, accumulate=2, epochs=1, warmup_epochs=0, precision="bf16")
    together, apart = LeavingTask(), LeavingTask()
    train(together, config, tmp_path / "together", seed=1)
    apart.left.set()
    apart.module.add_module("unused", nn.Dropout())  # with dropout there are no threads
    train(apart, config, tmp_path / "apart", seed=1)
    assert torch.equal(together.module.weight, apart.module.weight)
