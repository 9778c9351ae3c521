"""Weights of which every process keeps a part: torch's FSDP of a whole module.

A parameter is cut along its first axis, and with it what the optimiser keeps of it. All are
gathered for a step and for a validation and let go after it. Nothing is left to FSDP's hooks: they
want every parameter's gradient from every process, and a batch is of one subject. Nor is anything
computed with torch's distributed tensors: their operations plan for every new set of parameters,
which takes seconds, and each step has other subjects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from brainit import processes
from brainit.computing import device


class Sharded(nn.Module):
    """Computes through a module whose trainable parameters are gathered for it.

    They start as those of the first process are. Frozen ones stay whole everywhere.

    Args:
        module: What is trained; from here on its parameters are others, and cut.

    Attributes:
        parts: This process's parts of the trainable parameters, in their order and memory.

    Raises:
        ValueError: A trainable parameter is a scalar, which cannot be cut.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        for parameter in module.parameters():
            if parameter.requires_grad:  # FSDP cuts no other memory format, such as channels last
                parameter.data = parameter.data.contiguous()
        for tensor in (*module.parameters(), *module.buffers()):
            distributed.broadcast(tensor.detach(), 0)
        frozen = {p for p in module.parameters() if not p.requires_grad}
        mesh = init_device_mesh(device().type, (processes.count(),))
        # FSDP's hooks are on the forward of what it is given, here a wrapper's that nobody calls.
        self.held = fully_shard(nn.Sequential(module), mesh=mesh, ignored_params=frozen)
        with self.gathered():  # at the first time FSDP moves the parts
            pass
        self.parts = [nn.Parameter(local(p)) for p in module.parameters() if p.requires_grad]

    def forward(self, compute: Callable[[], Any]) -> Any:
        """What `compute` gives."""
        with self.gathered():
            return compute()

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Meanwhile the module's parameters are whole."""
        # What is made in inference mode cannot be trained, and FSDP makes whole parameters once.
        with torch.inference_mode(False), processes.exchange():
            self.held.unshard()
        try:
            yield
        finally:
            self.held.reshard()


def local(tensor: Tensor) -> Tensor:
    """What this process has of a tensor, in the same memory: a part, or all that is not cut."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def part_of(tensor: Tensor, like: Tensor) -> Tensor:
    """What this process keeps of a tensor that every process has, if it is cut as `like` is."""
    if not isinstance(like, DTensor):
        return tensor
    return local(distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None))


def as_part(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor that is a part, if `like` is cut, known as one of a whole with its shape."""
    if not isinstance(like, DTensor):
        return tensor
    mesh, cuts, shape, stride = like.device_mesh, like.placements, like.shape, like.stride()
    return DTensor.from_local(tensor, mesh, cuts, run_check=False, shape=shape, stride=stride)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, gathered if it is cut: then all processes must call."""
    if not isinstance(tensor, DTensor):
        return tensor
    with processes.exchange():
        return tensor.full_tensor()


def for_first(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors for the first process, those that were cut on the host; none for others."""
    found = {}
    for name, tensor in tensors.items():
        value = whole(tensor).cpu() if isinstance(tensor, DTensor) else tensor
        if processes.is_first():
            found[name] = value
    return found


def summed(gradient: Tensor | None, parameter: Tensor, part: Tensor) -> Tensor:
    """This process's part of the sum of the gradients that all processes have of a parameter.

    Args:
        gradient: Of the whole parameter, [A, ...]; None is zero.
        parameter: The parameter, [A, ...].
        part: This process's part of it, [a, ...]: the next rows of A divided evenly, rounded up.

    Returns:
        [a, ...].
    """
    height = -(-len(parameter) // processes.count())
    terms = part.new_zeros(height * processes.count(), *part.shape[1:])
    if gradient is not None:
        terms[: len(gradient)] = gradient
    own = part.new_empty(height, *part.shape[1:])
    with processes.exchange():
        distributed.reduce_scatter_tensor(own, terms)
    return own[: len(part)]


def make_whole(module: nn.Module) -> None:
    """Give a module whole parameters again, in place."""
    parts = [p for p in module.parameters() if isinstance(p, DTensor)]
    plain = {id(p): nn.Parameter(whole(p.detach())) for p in parts}
    for owner in module.modules():
        for name, parameter in list(owner.named_parameters(recurse=False, remove_duplicate=False)):
            if id(parameter) in plain:
                owner.register_parameter(name, plain[id(parameter)])
