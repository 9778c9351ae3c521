"""A training of a second, and child processes that can be killed in the middle of it."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from brainit import engine
from brainit.profile import Training, load_profile
from brainit.run_folder import RunFolder
from brainit.stopping import Interrupted

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


Before: TypeAlias = Callable[[int, int], float | None]


class ToyTask:
    """Linear regression with dropout, so that random state matters; five batches an epoch.

    Args:
        before: Called with the epoch and the batch's number before every loss; what it gives, if
            anything, the loss is multiplied with.
    """

    name = "toy"

    def __init__(self, before: Before | None = None) -> None:
        torch.manual_seed(0)
        self.module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.x = torch.randn(40, 4)
        self.before = before

    def epoch(self, number: int) -> Sequence[tuple[int, int, Tensor]]:
        rows = torch.randperm(40, generator=torch.Generator().manual_seed(number))
        return [(number, index, part) for index, part in enumerate(rows.split(8))]

    def loss(self, batch: tuple[int, int, Tensor]) -> Tensor:
        epoch, index, rows = batch
        factor = self.before(epoch, index) if self.before is not None else None
        loss = (self.module(self.x[rows]).squeeze(1) - self.x[rows].sum(1)).square().mean()
        return loss if factor is None else loss * factor

    def validate(self) -> dict[str, float]:
        error = self.module(self.x).detach().squeeze(1) - self.x.sum(1)
        return {"score": -float(error.square().mean())}


def train(folder: Path, before: Before | None = None, **changes: Any) -> None:
    """Train a toy in a run folder, as a stage does."""
    run = RunFolder(folder, load_profile("tiny", ["tracker=none"]))
    engine.train(ToyTask(before), replace(CONFIG, **changes), folder / "toy", 1, run.log)


def traces(folder: Path) -> dict[str, str]:
    """Hashes of all that a training leaves and that must not depend on what happened to it."""
    files = [folder / "toy" / "last.safetensors", folder / "toy" / "best.safetensors"]
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in [*files, folder / "metrics.jsonl"]
    }


def slow_child(folder: Path, ready: Any) -> None:
    """Train with a checkpoint at every step, slowly enough to be hit; exit codes as the command's.

    Args:
        folder: Run folder.
        ready: Event, set when the training begins.
    """

    def before(epoch: int, index: int) -> None:
        ready.set()
        time.sleep(0.01)

    engine.SAVE_EVERY = 0.0
    os.fsync = lambda _: None
    try:
        train(folder, before)
    except Interrupted as stop:
        raise SystemExit(stop.exit_code) from None


_CONTEXT = multiprocessing.get_context("forkserver")


def stuck_child(folder: Path, ready: Any) -> None:
    """Begin a training whose first step takes minutes."""

    def before(epoch: int, index: int) -> None:
        ready.set()
        for _ in range(6000):
            time.sleep(0.05)  # a signal's handler runs in between

    train(folder, before)


_STAGES = [f"brainit.stages.{name}" for name in ("encoder", "low_level", "semantic", "joint")]
# The last one is what torch imports at the first step of an optimiser.
_CONTEXT.set_forkserver_preload([*_STAGES, "accelerate", "torch._dynamo"])


def event() -> Any:
    """Something that a child can set."""
    return _CONTEXT.Event()


def started(process: BaseProcess, ready: Any) -> bool:
    """Wait until a child's training has begun, or tell that the child ended before."""
    while process.exitcode is None:
        if ready.wait(0.05):
            return True
    return False


def child(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Start a process; its imports are done once for all."""
    process = _CONTEXT.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def children(n: int, target: Callable[..., None], *arguments: Any) -> list[BaseProcess]:
    """Start n processes that know of each other as `torchrun` tells them, over gloo."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [child(_member, rank, n, port, target, arguments) for rank in range(n)]


def _member(
    rank: int, n: int, port: int, target: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": n, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in places.items()})
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    os.environ["OMP_NUM_THREADS"] = "1"  # else accelerate chooses, and sums are cut elsewhere
    torch.set_num_threads(1)
    target(*arguments)
