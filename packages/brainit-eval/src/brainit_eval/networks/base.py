"""What every network of the benchmark does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from brainit_eval.records.result_parts import WeightsRecord

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Network(Protocol):
    """Pictures to named features."""

    record: WeightsRecord

    def __call__(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Features ``[n, D]`` float32 per layer, of pictures ``[n, 3, H, W]`` in [0, 1]."""

    def to(self, device: torch.device) -> Any:
        """Move it."""


class PairNetwork(Protocol):
    """Two pictures to a distance."""

    record: WeightsRecord

    def __call__(self, images: Tensor, truth: Tensor) -> Tensor:
        """Distances ``[n]`` of pictures ``[n, 3, H, W]`` in [0, 1]."""

    def to(self, device: torch.device) -> Any:
        """Move it."""


class LayerReader(nn.Module):
    """A network read at inner layers, on pictures normalised by mean and standard deviation."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        record: WeightsRecord,
        normalisation: tuple[Sequence[float], Sequence[float]] = IMAGENET,
    ) -> None:
        """Wrap a network.

        Args:
            network: The network; it is set to evaluation and frozen.
            record: What its weights are.
            normalisation: Mean and standard deviation per colour.
        """
        super().__init__()
        self.network = network
        self.record = record
        for name, values in zip(("mean", "std"), normalisation, strict=True):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1))
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Outputs of the layers, flattened: ``[n, D]`` float32 each."""
        features: dict[str, Tensor] = {}
        hooks = [
            self.network.get_submodule(layer).register_forward_hook(partial(_keep, features, layer))
            for layer in layers
        ]
        try:
            self.network((images - self.mean) / self.std)
        finally:
            for hook in hooks:
                hook.remove()
        return features


def _keep(features: dict[str, Tensor], layer: str, *call: Any) -> None:
    features[layer] = call[-1].flatten(1).float()


def with_seed(make: Callable[[], nn.Module]) -> nn.Module:
    """Build a network; where its weights stay random they are the same in every run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()
