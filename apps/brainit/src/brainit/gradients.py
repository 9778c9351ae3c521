"""The gradient of one step: the mean over its batches, in one process or dealt over many.

However many processes share a step, it is the same mathematics. Batches are dealt whole: a
contrastive loss compares every image of a batch with every other, so a batch that is split would
need the features and gradients of other processes, and each stage its own care for that. A step has
`accumulate` batches, for P processes a multiple of P, and `batch_size` is as much smaller as a step
is to stay the same. A batch draws its own randomness, whichever process computes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from brainit import processes
from brainit.computing import device
from brainit.sharding import Sharded, summed

if TYPE_CHECKING:
    from accelerate import Accelerator

Loss: TypeAlias = Callable[[], Tensor]
"""Computes the loss of one batch."""


class OneProcess:
    """Leaves the mean gradient of some losses in the parameters of a module.

    On a CPU the losses are computed side by side, if no random draw is in the model. Small models
    have too little work in an operation for several threads to share; a thread a batch keeps all
    cores busy. Dropout draws from one generator for all threads, in whatever order they come, so
    models with dropout take one batch after the other.

    Args:
        module: What is trained.
        size: Batches a step.

    Attributes:
        threads: Whether losses are computed side by side.
    """

    def __init__(self, module: nn.Module, size: int) -> None:
        self.module = module
        random = any(isinstance(m, nn.Dropout) and m.p > 0 for m in module.modules())
        self.threads = device().type == "cpu" and not random and size > 1
        self._pool = (
            ThreadPoolExecutor(size, initializer=torch.set_num_threads, initargs=(1,))
            if self.threads
            else None
        )

    def share(self, part: Sequence[int]) -> Sequence[int]:
        """Which of a step's batches this process computes: all."""
        return part

    def __call__(self, losses: Sequence[Loss]) -> list[float]:
        """Compute the gradient and give the losses."""
        parameters = [p for p in self.module.parameters() if p.requires_grad]

        def run(loss_of: Loss) -> tuple[float, tuple[Tensor | None, ...]]:
            loss = loss_of()
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            return float(loss.detach()), gradients

        answers = list((self._pool.map if self._pool else map)(run, losses))
        for parameter, *parts in zip(parameters, *(grads for _, grads in answers), strict=True):
            used = [part for part in parts if part is not None]
            parameter.grad = sum(used[1:], used[0]) / len(losses) if used else None
        return [loss for loss, _ in answers]

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


class ManyProcesses:
    """The same, where each process computes its share and gradients are averaged over all.

    Args:
        whole: What `accelerate` made of `Whole`.
        accelerator: What made it.
    """

    threads = False

    def __init__(self, whole: nn.Module, accelerator: Accelerator) -> None:
        self.whole, self.accelerator = whole, accelerator

    def share(self, part: Sequence[int]) -> Sequence[int]:
        """Which of a step's batches this process computes."""
        return [part[min(index, len(part) - 1)] for index in self._own(len(part))]

    def __call__(self, losses: Sequence[Loss]) -> list[float]:
        """Compute the gradient and give the losses, those of the other processes too."""
        n, size = len(losses), processes.count()
        own = self._own(n)
        self.whole.zero_grad()
        found = []
        for index in own:
            with self._exchange(last=index == own[-1]):
                # Processes beyond a short step's end repeat its last batch, for nothing, because
                # all must take part in the exchange.
                loss = self.whole(losses[min(index, n - 1)])
                self.accelerator.backward(loss * (size / n if index < n else 0.0))
            found.append(float(loss.detach()))
        everyone = processes.gather(found)
        return [everyone[index % size][index // size] for index in range(n)]

    def _own(self, n: int) -> range:
        size = processes.count()
        return range(processes.rank(), -(-n // size) * size, size)

    def _exchange(self, last: bool) -> AbstractContextManager[Any]:
        """Gradients are exchanged with the last batch of a step only."""
        return nullcontext() if last else self.accelerator.no_sync(self.whole)

    def close(self) -> None:
        """Nothing to end."""


class ShardedProcesses:
    """The same, where each process keeps its part of the mean gradient only.

    What no batch of a step used has no gradient, as in one process: its weights and moments are
    left alone.

    Args:
        whole: What is trained; the gradient is left in its parts.
    """

    threads = False

    def __init__(self, whole: Sharded) -> None:
        self.whole = whole

    def share(self, part: Sequence[int]) -> Sequence[int]:
        """Which of a step's batches this process computes."""
        return part[processes.rank() :: processes.count()]

    def __call__(self, losses: Sequence[Loss]) -> list[float]:
        """Compute the gradient and give the losses, those of the other processes too."""
        n, size = len(losses), processes.count()
        with self.whole.gathered():
            found, gradients = self._sum(losses[processes.rank() :: size])
        rows = -(-n // size)
        padding = [0.0] * (rows - len(found))
        used = [float(gradient is not None) for gradient in gradients]
        everyone = processes.gather([*found, *padding, *used])
        flags = zip(*(row[rows:] for row in everyone), strict=True)
        for parameter, part, any_used in zip(
            self._trained(), self.whole.parts, map(any, flags), strict=True
        ):
            own = gradients.pop(0)  # each goes as its part comes
            part.grad = summed(own, parameter, part) / n if any_used else None
        return [everyone[index % size][index // size] for index in range(n)]

    def _sum(self, losses: Sequence[Loss]) -> tuple[list[float], list[Tensor | None]]:
        """Losses of this process's batches, and their gradients' sum for every parameter."""
        parameters, found = self._trained(), []
        total: list[Tensor | None] = [None] * len(parameters)
        for loss_of in losses:
            loss = loss_of()
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            for index, (before, more) in enumerate(zip(total, gradients, strict=True)):
                if more is not None:
                    total[index] = more if before is None else before + more
            found.append(float(loss.detach()))
        return found, total

    def _trained(self) -> list[nn.Parameter]:
        return [p for p in self.whole.parameters() if p.requires_grad]

    def close(self) -> None:
        """Nothing to end."""


class Whole(nn.Module):
    """Computes through a module inside one call of `forward`, where DDP does its part.

    Args:
        module: What is trained.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, compute: Callable[[], Any]) -> Any:
        """What `compute` gives."""
        return compute()
