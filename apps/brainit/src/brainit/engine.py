"""One engine trains everything: accelerate below, one process or many, exact resume at any step.

A task says what is trained, which batches an epoch holds and what the loss is. Batches and all
draws from torch's generators are a pure function of (seed, epoch, batch), so a training that was
stopped anywhere and resumed goes through the same ones; a checkpoint keeps no generator's state.
"""

from __future__ import annotations

import dataclasses
import math
import textwrap
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from tqdm.auto import tqdm

from brainit import processes
from brainit.checkpoint import (
    BEST,
    LAST,
    check_room,
    clean,
    load_checkpoint,
    newest,
    save_checkpoint,
)
from brainit.computing import autocast, device
from brainit.gradients import ManyProcesses, OneProcess, ShardedProcesses, Whole
from brainit.prefetch import prefetched
from brainit.profile import Training
from brainit.schedule import Schedule
from brainit.sharding import Sharded, make_whole
from brainit.stopping import Interrupted, Stop, stopping

SAVE_EVERY = 600.0
"""Seconds between checkpoints within an epoch."""
DESCRIBED = 1500
"""Letters that a message has for batches: enough for the samples of one as published."""


class Task(Protocol):
    """What the engine trains.

    A task may also have `load(batch)`, a pure function: it is called ahead of a batch's turn, by
    any thread, and what it gives then goes to `loss` in the batch's place.
    """

    @property
    def name(self) -> str:
        """What progress bars and logs call it."""

    @property
    def module(self) -> nn.Module:
        """What is trained, in place."""

    def epoch(self, number: int) -> Sequence[Any]:
        """Batches of one epoch, a pure function of the task's seed and the epoch's number."""

    def loss(self, batch: Any) -> Tensor:
        """Scalar loss of one batch, computed through `module`."""

    def validate(self) -> dict[str, float]:
        """Validation figures; the highest "score" picks the best checkpoint."""


class TrainingStopped(RuntimeError):
    """A loss or a gradient stopped being a number; nothing was updated with it."""


@dataclass
class Progress:
    """How far a training is, beside its weights and moments; ready for JSON.

    Attributes:
        epoch: Epochs that are finished.
        step: Steps of the next epoch that are finished.
        loss: Sum of those steps' losses.
        best: Validation figures of the best epoch.
        schedule: What the learning rate depends on.
    """

    schedule: dict[str, Any]
    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    best: dict[str, float] | None = None


def train(
    task: Task, config: Training, folder: Path, seed: int, log: Callable[..., None] | None = None
) -> dict[str, float]:
    """Train a task and leave its best weights in the module.

    Launched as several processes, they share every step (see `gradients`); all validate alike and
    the first one's figures count; the first one alone writes and logs. Launched for FSDP, each
    keeps a part of the weights (see `sharding`); the module ends with whole ones, in new objects.

    Args:
        task: What to train.
        config: Optimiser, schedule, budget.
        folder: Where checkpoints are kept; an interrupted training goes on from the last one.
        seed: With the numbers of epoch and batch it decides all random draws.
        log: Called with the figures of every epoch, before its checkpoint is written: after a
            crash in between, once more with the same figures.

    Returns:
        Validation figures of the best epoch.

    Raises:
        TrainingStopped: A loss or a gradient was not finite.
        Interrupted: A signal asked to stop; where the training stands has been saved.
        CheckpointError: The folder's checkpoints cannot serve, or the disk cannot hold new ones.
        ValueError: `accumulate` batches cannot be dealt evenly over the launched processes.
    """
    return _Run(task, config, folder, seed, log).train()


class _Run:
    """One training, from its last checkpoint to its best weights."""

    def __init__(
        self,
        task: Task,
        config: Training,
        folder: Path,
        seed: int,
        log: Callable[..., None] | None,
    ) -> None:
        self.task, self.config, self.folder, self.seed, self.log = task, config, folder, seed, log
        self.module = task.module.to(device())
        self.optimiser, self.whole, self.gradients = self._prepared()
        self.schedule = Schedule(config)
        self.progress = Progress(self.schedule.state)
        self.saved = time.monotonic()

    def train(self) -> dict[str, float]:
        self._resume()
        with stopping() as stop, closing(self.gradients):
            for epoch in range(self.progress.epoch, self.config.epochs):
                batches = self.task.epoch(epoch)
                self._steps(epoch, batches, stop)
                self._finish(epoch, self._validated(epoch, len(batches)))
                self._pause(stop)
        processes.wait()
        make_whole(self.module)
        load_checkpoint(self.folder / BEST, self.module)
        self.module.eval()
        assert self.progress.best is not None
        return self.progress.best

    def _prepared(self) -> tuple[Any, nn.Module, OneProcess | ManyProcesses | ShardedProcesses]:
        module, size, sharers = self.module, self.config.accumulate, processes.count()
        trained = [p for p in module.parameters() if p.requires_grad]
        if sharers == 1:
            return _optimiser(self.config, trained), Whole(module), OneProcess(module, size)
        if size % sharers:
            raise ValueError(
                f"{self.task.name}: a step's {size} batches (accumulate) cannot be dealt evenly to "
                f"{sharers} processes; set accumulate to a multiple of {sharers}, and "
                "batch_size as much smaller as a step is to stay the same"
            )
        accelerator = processes.accelerator()
        if processes.sharded():
            sharded = Sharded(module)
            return _optimiser(self.config, sharded.parts), sharded, ShardedProcesses(sharded)
        prepared, optimiser = accelerator.prepare(Whole(module), _optimiser(self.config, trained))
        return optimiser, prepared, ManyProcesses(prepared, accelerator)

    def _resume(self) -> None:
        if processes.is_first():
            clean(self.folder)
            moments = 3 if self.config.optimiser == "adam_amsgrad" else 2
            check_room(self.folder, self.module, moments)
        path = processes.from_first(newest(self.folder) if processes.is_first() else None)
        if path is not None:
            self.progress = Progress(**load_checkpoint(path, self.module, self.optimiser))
            self.schedule.state = self.progress.schedule

    def _save(self) -> None:
        state = dataclasses.asdict(self.progress)
        save_checkpoint(self.folder / LAST, self.module, self.optimiser, state)
        self.saved = time.monotonic()

    def _steps(self, epoch: int, batches: Sequence[Any], stop: Stop) -> None:
        """Take the steps that are left of an epoch."""
        size, progress = self.config.accumulate, self.progress
        n = -(-len(batches) // size)
        parts = [range(len(batches))[step * size : (step + 1) * size] for step in range(n)]
        label = f"{self.task.name} {epoch + 1}/{self.config.epochs}"
        self.whole.train()
        ahead = self._ahead(batches, parts[progress.step :])
        # What _attention sets holds for all threads, so no thread may set it for itself.
        with _attention(), _bar(label, progress.step, n) as bar, closing(ahead):
            for step in range(progress.step, n):
                part = parts[step]
                loaded = {i: next(ahead) for i in self.gradients.share(part)}
                losses = self.gradients([partial(self._loss, epoch, i, loaded) for i in part])
                norm = self._norm()
                if not math.isfinite(norm + sum(losses)):
                    raise self._bad(epoch, step, losses, norm, [batches[i] for i in part])
                self._update(epoch + step / n, norm)
                progress.step, progress.loss = step + 1, progress.loss + sum(losses) / len(losses)
                bar.update()
                self._pause(stop)

    def _ahead(self, batches: Sequence[Any], parts: Sequence[range]) -> Generator[Any, None, None]:
        """What this process computes of some steps, loaded ahead, in order."""
        own = (batches[i] for part in parts for i in self.gradients.share(part))
        return prefetched(own, getattr(self.task, "load", _as_it_is))

    def _loss(self, epoch: int, index: int, loaded: Mapping[int, Any]) -> Tensor:
        if not self.gradients.threads:
            self._seed(epoch, index)
        with autocast(self.config.precision):
            return self.task.loss(loaded[index])

    def _seed(self, epoch: int, index: int) -> None:
        """What is drawn from here on depends on where in the training it is, on nothing else."""
        seed = int(np.random.SeedSequence([self.seed, epoch, index]).generate_state(1)[0])
        # torch.manual_seed takes a millisecond where there is no GPU to seed.
        torch.default_generator.manual_seed(seed)
        if device().type == "cuda":
            torch.cuda.manual_seed(seed)

    def _norm(self) -> float:
        """Length of the whole gradient."""
        norm = float(get_total_norm([p.grad for p in self._updated()]))
        if isinstance(self.whole, Sharded):  # of this process's parts
            return math.hypot(*(part for [part] in processes.gather([norm])))
        return norm

    def _updated(self) -> list[Any]:
        """Parameters, or this process's parts of them, that a step has a gradient of."""
        parameters = (p for group in self.optimiser.param_groups for p in group["params"])
        return [p for p in parameters if p.grad is not None]

    def _bad(
        self, epoch: int, step: int, losses: list[float], norm: float, batches: list[Any]
    ) -> TrainingStopped:
        """Say what is not a number, and which batch it came from."""
        what, where = f"gradient norm is {norm}", batches
        for loss, batch in zip(losses, batches, strict=True):
            if not math.isfinite(loss):
                what, where = f"loss is {loss}", [batch]
                break
        return TrainingStopped(
            f"{self.task.name}: {what} in epoch {epoch + 1}, step {step + 1}, from "
            f"{textwrap.shorten('; '.join(map(repr, where)), DESCRIBED)}; nothing was updated with "
            f"it, and {self.folder} holds the last checkpoint before"
        )

    def _update(self, epoch: float, norm: float) -> None:
        """Take one step down the gradient, at some point in time."""
        if self.config.clip_norm:
            clip_grads_with_norm_(self._updated(), self.config.clip_norm, torch.tensor(norm))
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * self.schedule.factor(epoch)
        self.optimiser.step()

    def _validated(self, epoch: int, n_batches: int) -> dict[str, float]:
        self._seed(epoch, n_batches)
        self.whole.eval()
        with torch.inference_mode(), autocast(self.config.precision):
            figures: dict[str, float] = self.whole(self.task.validate)
        return processes.from_first(figures)

    def _finish(self, epoch: int, figures: dict[str, float]) -> None:
        """Take note of an epoch's figures. What it writes, it writes again after a crash."""
        progress = self.progress
        row = {"epoch": epoch + 1, "loss": progress.loss / max(progress.step, 1), **figures}
        self.schedule.record(figures["score"])
        is_best = progress.best is None or figures["score"] > progress.best["score"]
        progress.epoch, progress.step, progress.loss = epoch + 1, 0, 0.0
        if is_best:
            progress.best = figures
            save_checkpoint(self.folder / BEST, self.module, None, {})
        if self.log is not None and processes.is_first():
            self.log(task=self.task.name, **row)
        self._save()

    def _pause(self, stop: Stop) -> None:
        """Save if it is time to, or if any process was asked to stop: then the training ends."""
        late = time.monotonic() - self.saved > SAVE_EVERY
        signals, times = zip(*processes.gather([stop.signal, late]), strict=True)
        if times[0] or any(signals):
            self._save()
        if any(signals):
            raise Interrupted(self.task.name, int(max(signals)))


def _as_it_is(batch: Any) -> Any:
    return batch


def _attention() -> AbstractContextManager[None]:
    """On CPUs torch's fused attention has a backward pass many times slower than plain products."""
    return sdpa_kernel(SDPBackend.MATH) if device().type == "cpu" else nullcontext()


def _bar(label: str, done: int, total: int) -> tqdm[Any]:
    """Steps done and the time that is left, shown by the first process."""
    hidden = not processes.is_first()
    return tqdm(desc=label, initial=done, total=total, leave=False, mininterval=0.5, disable=hidden)


def _optimiser(config: Training, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimiser == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)
    return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, amsgrad=True, fused=True)
