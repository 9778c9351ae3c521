"""One engine trains everything: accelerate below for the device, exact resume at epochs.

A task says what is trained, which batches an epoch holds and what the loss is. Batches are a pure
function of (seed, epoch), so a run that was stopped and resumed goes through the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm.auto import tqdm

from brainit.checkpoint import load_checkpoint, save_checkpoint
from brainit.computing import autocast, device
from brainit.profile import Training

WARMUP_START = 1e-3
PLATEAU_FACTOR = 0.1


class Task(Protocol):
    """What the engine trains."""

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
    """The loss stopped being a number; nothing was updated with it."""


def train(
    task: Task, config: Training, folder: Path, seed: int, log: Callable[..., None] | None = None
) -> dict[str, float]:
    """Train a task and leave its best weights in the module.

    Args:
        task: What to train.
        config: Optimiser, schedule, budget.
        folder: Where `last.safetensors` and `best.safetensors` are kept; an interrupted training
            resumes from the first.
        seed: Seed of dropout and the like; with the epoch's number it decides all random draws.
        log: Called with the figures of every epoch.

    Returns:
        Validation figures of the best epoch.

    Raises:
        TrainingStopped: A loss was not finite.
        NotImplementedError: Launched as several processes.
    """
    accelerator = Accelerator(cpu=device().type == "cpu")
    if accelerator.num_processes > 1:
        raise NotImplementedError(
            "brainit trains in one process for now; start it without a launcher"
        )
    task.module.to(device())
    parameters = [p for p in task.module.parameters() if p.requires_grad]
    optimiser = accelerator.prepare(_optimiser(config, parameters))
    schedule = Schedule(config)
    state: dict[str, Any] = {"epoch": 0, "best": None, "schedule": schedule.state}
    last, best = folder / "last.safetensors", folder / "best.safetensors"
    if last.is_file():
        state = load_checkpoint(last, task.module, optimiser)
        schedule.state = state["schedule"]
    for epoch in range(state["epoch"], config.epochs):
        set_seed(seed * 100_003 + epoch)
        loss = _run_epoch(task, optimiser, schedule, epoch)
        task.module.eval()
        with torch.inference_mode(), autocast(config.precision):
            figures = task.validate()
        schedule.record(figures["score"])
        state |= {"epoch": epoch + 1, "schedule": schedule.state}
        is_best = state["best"] is None or figures["score"] > state["best"]["score"]
        if is_best:
            state["best"] = figures
        if is_best:
            save_checkpoint(best, task.module, optimiser, state)
        save_checkpoint(last, task.module, optimiser, state)
        if log is not None:
            log(task=task.name, epoch=epoch + 1, loss=loss, **figures)
    load_checkpoint(best, task.module)
    task.module.eval()
    result: dict[str, float] = state["best"]
    return result


def _run_epoch(
    task: Task,
    optimiser: torch.optim.Optimizer,
    schedule: Schedule,
    epoch: int,
) -> float:
    task.module.train()
    batches = task.epoch(epoch)
    total = 0.0
    label = f"{task.name} {epoch + 1}/{schedule.config.epochs}"
    size = schedule.config.accumulate
    steps = [batches[first : first + size] for first in range(0, len(batches), size)]
    # What it sets holds for all threads, so no thread may set it for itself.
    with _attention(), _workers(task.module, size) as pool:
        for step, part in enumerate(_progress(steps, label)):
            factor = schedule.factor(epoch + step / len(steps))
            for group in optimiser.param_groups:
                group["lr"] = schedule.config.learning_rate * factor
            loss = _gradients(task, part, schedule.config.precision, pool)
            if not math.isfinite(loss):
                raise TrainingStopped(
                    f"{task.name}: loss is {loss} in epoch {epoch + 1}, step {step + 1}"
                )
            optimiser.step()
            total += loss
    return total / max(len(steps), 1)


def _workers(module: nn.Module, count: int) -> AbstractContextManager[Executor | None]:
    """Threads that share a step's batches, on a CPU and if no random draw is in the model.

    Small models have too little work in an operation for several threads to share; a thread a
    batch keeps all cores busy. Dropout draws from one generator for all threads, in whatever order
    they come, so models with dropout take one batch after the other.
    """
    random = any(isinstance(m, nn.Dropout) and m.p > 0 for m in module.modules())
    if device().type != "cpu" or random or count == 1:
        return nullcontext()
    return ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))


def _gradients(task: Task, batches: Sequence[Any], precision: str, pool: Executor | None) -> float:
    """Leave the mean gradient of some batches in the parameters; give their mean loss."""
    parameters = [p for p in task.module.parameters() if p.requires_grad]

    def run(batch: Any) -> tuple[float, tuple[Tensor | None, ...]]:
        with autocast(precision):
            loss = task.loss(batch)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        return float(loss.detach()), gradients

    answers = list((pool.map if pool else map)(run, batches))
    for parameter, *parts in zip(parameters, *(grads for _, grads in answers), strict=True):
        used = [part for part in parts if part is not None]
        parameter.grad = sum(used[1:], used[0]) / len(batches) if used else None
    return sum(loss for loss, _ in answers) / len(batches)


def _attention() -> AbstractContextManager[None]:
    """On CPUs torch's fused attention has a backward pass many times slower than plain products."""
    return sdpa_kernel(SDPBackend.MATH) if device().type == "cpu" else nullcontext()


def _progress(batches: Sequence[Any], label: str) -> Iterator[Any]:
    yield from tqdm(batches, desc=label, leave=False, mininterval=0.5)


def _optimiser(config: Training, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimiser == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)
    return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, amsgrad=True, fused=True)


class Schedule:
    """Learning-rate factor over (fractional) epochs: cubic warm-up, then plateau or cosine."""

    def __init__(self, config: Training) -> None:
        self.config = config
        self.state: dict[str, Any] = {"best": None, "stalled": 0, "drops": 0}

    def factor(self, epoch: float) -> float:
        """Factor on the learning rate at a point in time, in epochs from the start."""
        warmup = self.config.warmup_epochs
        if epoch < warmup:
            return WARMUP_START + (1 - WARMUP_START) * (epoch / warmup) ** 3
        if self.config.schedule == "plateau":
            return float(PLATEAU_FACTOR ** self.state["drops"])
        return 0.5 + 0.5 * math.cos(
            math.pi * (epoch - warmup) / max(self.config.epochs - warmup, 1)
        )

    def record(self, score: float) -> None:
        """Take note of an epoch's validation score."""
        if self.state["best"] is None or score > self.state["best"]:
            self.state |= {"best": score, "stalled": 0}
            return
        self.state["stalled"] += 1
        if self.state["stalled"] > self.config.patience:
            self.state |= {"stalled": 0, "drops": self.state["drops"] + 1}
