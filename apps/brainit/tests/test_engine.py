"""The engine: resumed runs equal unbroken ones bit for bit, bad losses stop before an update."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
import torch
from torch import Tensor, nn

from brainit.checkpoint import load_checkpoint
from brainit.engine import TrainingStopped, train
from brainit.profile import Training
from brainit.schedule import Schedule

CONFIG = Training(
    optimiser="adamw",
    learning_rate=1e-2,
    weight_decay=0.01,
    batch_size=8,
    accumulate=1,
    epochs=5,
    warmup_epochs=1,
    schedule="cosine",
    patience=1,
    precision="no",
)


class Killed(Exception):
    """Stands for a process that dies."""


class ToyTask:
    """Linear regression with dropout, so that random state matters."""

    name = "toy"

    def __init__(self, die_in_epoch: int | None = None, bad_from_epoch: int | None = None) -> None:
        torch.manual_seed(0)
        self.module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.x = torch.randn(40, 4)
        self.die_in_epoch, self.bad_from_epoch = die_in_epoch, bad_from_epoch
        self._epoch = 0

    def epoch(self, number: int) -> Sequence[Tensor]:
        self._epoch = number
        return torch.randperm(40, generator=torch.Generator().manual_seed(number)).split(8)

    def loss(self, batch: Tensor) -> Tensor:
        if self._epoch == self.die_in_epoch:
            raise Killed
        loss = (self.module(self.x[batch]).squeeze(1) - self.x[batch].sum(1)).square().mean()
        return loss * torch.nan if self._epoch == self.bad_from_epoch else loss

    def validate(self) -> dict[str, float]:
        error = self.module(self.x).detach().squeeze(1) - self.x.sum(1)
        return {"score": -float(error.square().mean())}


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("optimiser", ["adamw", "adam_amsgrad"])
def test_killed_and_resumed_equals_unbroken(
    tmp_path: Path, optimiser: str, accumulate: int
) -> None:
    config = replace(CONFIG, optimiser=optimiser, accumulate=accumulate)
    unbroken = ToyTask()
    first = train(unbroken, config, tmp_path / "a", seed=1)
    with pytest.raises(Killed):
        train(ToyTask(die_in_epoch=3), config, tmp_path / "b", seed=1)
    resumed = ToyTask()
    assert train(resumed, config, tmp_path / "b", seed=1) == first
    for name, value in unbroken.module.state_dict().items():
        assert torch.equal(value, resumed.module.state_dict()[name]), name
    a, b = (tmp_path / run / "last.safetensors" for run in "ab")
    assert a.read_bytes() == b.read_bytes()


class PlainTask(ToyTask):
    """The same without dropout, so that a step's batches run side by side; equal batches."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 1))

    def epoch(self, number: int) -> Sequence[Tensor]:
        rows = torch.randperm(40, generator=torch.Generator().manual_seed(number))
        return rows.split(self.size)

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


def test_nan_loss_stops_before_the_update(tmp_path: Path) -> None:
    task = ToyTask(bad_from_epoch=2)
    with pytest.raises(TrainingStopped, match="toy: loss is nan in epoch 3, step 1"):
        train(task, CONFIG, tmp_path, seed=1)
    kept = ToyTask()
    assert load_checkpoint(tmp_path / "last.safetensors", kept.module)["epoch"] == 2
    for name, value in task.module.state_dict().items():
        assert torch.equal(value, kept.module.state_dict()[name]), name


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

    def epoch(self, number: int) -> Sequence[int]:
        return [0, 1]

    def loss(self, batch: int) -> Tensor:
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
