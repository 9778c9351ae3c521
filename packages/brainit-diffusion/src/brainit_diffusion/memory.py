"""How much memory a training needs, before it runs: counted, not guessed, and nothing allocated."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
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
    model: nn.Module, loss: Callable[[], Tensor], *, average: bool = False
) -> TrainingMemory:
    """Count the bytes of a step of Adam.

    The step runs on fake tensors: all shapes and no values, in seconds for billions of parameters.
    A model and a batch that were made under a `FakeTensorMode` (torch) do, and need no memory;
    on the meta device torch takes another attention, which needs far more than the real one.

    Args:
        model: What is trained, as it will be: its types and what learns in it.
        loss: Computes the loss of a batch; real tensors in it are taken for their shapes.
        average: Whether a moving average of what learns is kept.

    Returns:
        Bytes by use.
    """
    held = [*model.parameters(), *model.buffers()]
    learning = [p for p in model.parameters() if p.requires_grad]
    weights, learned = (
        sum(x.numel() * x.element_size() for x in part) for part in (held, learning)
    )
    counter = _Counter()
    built = next((x.fake_mode for x in held if isinstance(x, FakeTensor)), None)
    with built or FakeTensorMode(allow_non_fake_inputs=True) as fake, counter:
        known = [fake.from_tensor(x) for x in held]
        counter.known.update((x.untyped_storage(), None) for x in known)
        value = loss()
        gradients = torch.autograd.grad(value, learning, allow_unused=True)
        del value, gradients, known
    beyond = max(0, counter.peak - learned)
    return TrainingMemory(weights, learned, ADAM_STATES * learned, average * learned, beyond)


class _Counter(TorchDispatchMode):
    """Sees every operation's results: bytes of those that live, and the most of them at once."""

    def __init__(self) -> None:
        super().__init__()
        self.known = WeakIdKeyDictionary(ref_type=weakref.ref)
        self.living = self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
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
