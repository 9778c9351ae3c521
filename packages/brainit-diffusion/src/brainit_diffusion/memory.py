"""How much memory a training needs, before it runs: counted, not guessed, and nothing allocated."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# Torch has no public name for these, though its documentation has it imported from here.
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.weak import WeakIdKeyDictionary

ADAM_STATES = 2


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of a training step.

    Attributes:
        weights: Of all parameters and buffers.
        gradients: Of the parameters that learn.
        optimiser: Adam's two moments of them.
        average: Of their moving average, zero without one.
        activations: The most that forward and backward pass hold at once beyond all of these.
    """

    weights: int
    gradients: int
    optimiser: int
    average: int
    activations: int

    @property
    def total(self) -> int:
        """Their sum: what a device must have, but for the allocator's own waste."""
        return self.weights + self.gradients + self.optimiser + self.average + self.activations

    def __str__(self) -> str:
        rows = (*vars(self).items(), ("total", self.total))
        return "\n".join(f"{name:<12}{size / 2**30:>9.2f} GiB" for name, size in rows)


def training_memory(
    model: nn.Module, loss: Callable[[], Tensor], *, average: bool = False, accumulate: bool = False
) -> TrainingMemory:
    """Count the bytes of a step of Adam.

    The step runs on fake tensors: all shapes and no values, in seconds for billions of parameters.
    A model and a batch that were made under a `FakeTensorMode` (torch) do, and need no memory;
    on the meta device torch takes another attention, which needs far more than the real one.

    Args:
        model: What is trained, as it will be: its types and what learns in it.
        loss: Computes the loss of a batch; real tensors in it are taken for their shapes.
        average: Whether a moving average of what learns is kept.
        accumulate: Whether gradients of earlier batches are there while this one is computed.

    Returns:
        Bytes by use.
    """
    learned = sum(_bytes(p) for p in model.parameters() if p.requires_grad)
    counted = count(model, lambda: gradients(model, loss, accumulate=accumulate))
    beyond = counted.memory - (0 if accumulate else learned)
    return TrainingMemory(
        size(model), learned, ADAM_STATES * learned, average * learned, max(0, beyond)
    )


def gradients(model: nn.Module, loss: Callable[[], Tensor], *, accumulate: bool = False) -> None:
    """Forward and backward pass, whose results are dropped.

    Args:
        model: What learns.
        loss: Of a batch.
        accumulate: Whether each gradient goes as soon as it is there, as if added to an earlier
            one; if not, all of them are held to the end.
    """
    learning = [p for p in model.parameters() if p.requires_grad]
    hooks = [p.register_hook(_emptied) for p in learning if accumulate]
    try:
        torch.autograd.grad(loss(), learning, allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class Count:
    """What a run of something takes.

    Attributes:
        memory: The most bytes that it holds at once beyond what was there.
        operations: Of torch; on a GPU each is at least one kernel to launch.
    """

    memory: int
    operations: int


def count(model: nn.Module, run: Callable[[], object]) -> Count:
    """Run something on fake tensors, and count.

    Args:
        model: What it uses; its parameters and buffers count as there before.
        run: What to run.
    """
    held = [*model.parameters(), *model.buffers()]
    counter = _Counter()
    built = next((x.fake_mode for x in held if isinstance(x, FakeTensor)), None)
    with built or fake_tensors() as fake, counter:
        known = [fake.from_tensor(x) for x in held]
        counter.known.update((x.untyped_storage(), None) for x in known)
        counter.operations = 0
        run()
        del known
    return Count(counter.peak, counter.operations)


def fake_tensors() -> FakeTensorMode:
    """A mode in which tensors have shapes, types and devices, and no values."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def size(model: nn.Module) -> int:
    """Bytes of parameters and buffers."""
    return sum(map(_bytes, (*model.parameters(), *model.buffers())))


def _bytes(value: Tensor) -> int:
    return value.numel() * value.element_size()


def _emptied(gradient: Tensor) -> Tensor:
    """A gradient of the same shape that takes no memory."""
    return gradient.new_zeros(()).expand_as(gradient)


class _Counter(TorchDispatchMode):
    """Sees every operation's results: bytes of those that live, and the most of them at once."""

    def __init__(self) -> None:
        super().__init__()
        self.known = WeakIdKeyDictionary(ref_type=weakref.ref)
        self.living = self.peak = self.operations = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations += 1
        for value in tree_iter(result):
            if isinstance(value, Tensor):
                self._see(value.untyped_storage())
        return result

    def _see(self, storage: Any) -> None:
        if storage in self.known:  # a view, or changed in place
            return
        self.known[storage] = None
        size = storage.nbytes()
        self.living += size
        self.peak = max(self.peak, self.living)
        weakref.finalize(storage, self._freed, size)

    def _freed(self, size: int) -> None:
        self.living -= size
