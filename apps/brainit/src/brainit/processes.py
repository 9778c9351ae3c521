"""One process or many, as `accelerate launch` or `torchrun` started them: who writes, who waits.

Beside the group that exchanges gradients there is one for a few numbers and words, over gloo. A
process that dies closes its connections, which ends the others' waiting at once, so they may wait
for one that lives as long as it takes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")
PATIENCE = timedelta(days=30)


class LostProcess(RuntimeError):
    """Another process has ended, so that this one cannot go on."""


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
        with _talk() as (distributed, group):
            distributed.barrier(group=group)


def from_first(value: T) -> T:
    """The first process's value, in all of them."""
    if count() == 1:
        return value
    values = [value]
    with _talk() as (distributed, group):
        distributed.broadcast_object_list(values, src=0, group=group)
    return values[0]


def gather(values: list[float]) -> list[list[float]]:
    """Every process's numbers, equally many each, in the order of ranks."""
    if count() == 1:
        return [values]
    import torch

    own = torch.tensor(values, dtype=torch.float64)
    everyone = [torch.empty_like(own) for _ in range(count())]
    with _talk() as (distributed, group):
        distributed.all_gather(everyone, own, group=group)
    return [numbers.tolist() for numbers in everyone]


def sharded() -> bool:
    """Whether they were launched for FSDP; accelerate itself forgets that on CPUs."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def accelerator() -> Accelerator:
    """What prepares a model to be trained by all processes.

    Raises:
        NotImplementedError: Launched for something other than DDP and FSDP.
        RuntimeError: Fewer GPUs than processes.
    """
    from accelerate import Accelerator, DistributedType
    from accelerate.utils import DistributedDataParallelKwargs

    from brainit.computing import device

    # A batch is of one subject: the others' voxel embeddings get no gradient from it.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
    found = Accelerator(cpu=device().type == "cpu", kwargs_handlers=[unused])
    ways = (DistributedType.MULTI_CPU, DistributedType.MULTI_GPU, DistributedType.FSDP)
    if found.distributed_type not in ways:
        raise NotImplementedError(
            f"launched for {found.distributed_type.value}; brainit trains in several processes by "
            "DDP or FSDP: accelerate launch --multi_gpu or --use_fsdp"
        )
    return found


@contextmanager
def exchange() -> Iterator[None]:
    """What fails within, but for want of memory, is that another process has ended.

    Raises:
        LostProcess: It has.
    """
    from torch import OutOfMemoryError

    try:
        yield
    except OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise LostProcess(
            f"process {rank()} of {count()}: another one has ended; its own message says why"
        ) from error


@contextmanager
def _talk() -> Iterator[tuple[Any, Any]]:
    """torch.distributed and the group for words."""
    from torch import distributed

    group = _group()
    with exchange():
        yield distributed, group


@cache
def _group() -> Any:
    from torch import distributed

    accelerator()  # which starts what processes talk through
    return distributed.new_group(backend="gloo", timeout=PATIENCE)
