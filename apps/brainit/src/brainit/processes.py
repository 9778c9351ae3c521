"""One process or many, as `accelerate launch` or `torchrun` started them: who writes, who waits.

Beside the group that exchanges gradients there is one for a few numbers and words, over gloo. A
process that dies closes its connections, which ends the others' waiting at once, so they may wait
for one that lives as long as it takes.
"""

from __future__ import annotations

import os
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import distributed

from brainit.computing import device

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")
PATIENCE = timedelta(days=30)


def count() -> int:
    """How many processes share the work."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this is the process that writes and logs."""
    return rank() == 0


def wait() -> None:
    """Wait until all processes are here."""
    if count() > 1:
        distributed.barrier(group=_group())


def from_first(value: T) -> T:
    """The first process's value, in all of them."""
    if count() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0, group=_group())
    return values[0]


def gather(values: list[float]) -> list[list[float]]:
    """Every process's numbers, equally many each, in the order of ranks."""
    if count() == 1:
        return [values]
    own = torch.tensor(values, dtype=torch.float64)
    everyone = [torch.empty_like(own) for _ in range(count())]
    distributed.all_gather(everyone, own, group=_group())
    return [numbers.tolist() for numbers in everyone]


def accelerator() -> Accelerator:
    """What prepares a model for all processes: DDP, or FSDP as the launcher was told.

    Raises:
        RuntimeError: Fewer GPUs than processes.
    """
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    # A batch is of one subject: the others' voxel embeddings get no gradient from it.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
    return Accelerator(cpu=device().type == "cpu", kwargs_handlers=[unused])


@cache
def _group() -> distributed.ProcessGroup | None:
    accelerator()  # which starts what its processes talk through
    group: distributed.ProcessGroup | None = distributed.new_group(backend="gloo", timeout=PATIENCE)
    return group
