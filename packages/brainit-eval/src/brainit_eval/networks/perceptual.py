"""LPIPS and DreamSim, by their own libraries: distances of two pictures, lower is closer."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from brainit_eval.networks.base import with_seed
from brainit_eval.networks.weights import (
    WeightFile,
    WeightStore,
    assign,
    random_record,
    tensors_hash,
)
from brainit_eval.records.result_parts import WeightsRecord


class Perceptual(nn.Module):
    """A library's distance, on pictures in [0, 1]."""

    def __init__(
        self, network: nn.Module, record: WeightsRecord, prepare: Callable[[Tensor], Tensor]
    ) -> None:
        """Wrap it.

        Args:
            network: Two batches of pictures to distances.
            record: What its weights are.
            prepare: From [0, 1] to the range it wants.
        """
        super().__init__()
        self.network = network
        self.record = record
        self.prepare = prepare
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor, truth: Tensor) -> Tensor:
        """Distances ``[n]`` float32."""
        distance: Tensor = self.network(self.prepare(images), self.prepare(truth))
        return distance.float().flatten()


def build(name: str, file: WeightFile, store: WeightStore | None) -> Perceptual:
    """Build one of them; ``store`` None gives random weights (LPIPS only).

    Raises:
        ValueError: If weights do not fit, or DreamSim is asked for random ones.
    """
    return _lpips(file, store) if name == "lpips" else _dreamsim(store)


def _lpips(file: WeightFile, store: WeightStore | None) -> Perceptual:
    """Zhang et al. 2018, version 0.1 on AlexNet; the linear layers come with the library."""
    lpips = import_module("lpips")
    network = with_seed(lambda: lpips.LPIPS(net="alex", pnet_rand=True, verbose=False))
    if store is None:
        return Perceptual(network, random_record(network), _to_signed)
    state, _ = store.load(file)
    trunk = network.get_submodule("net")  # slice2.3.weight is AlexNet's features.3.weight
    names = {key: "features." + key.split(".", 1)[1] for key in trunk.state_dict()}
    assign(trunk, {key: state[name] for key, name in names.items() if name in state}, file.name)
    return Perceptual(network, _by_library("lpips 0.1 alex", network), _to_signed)


def _dreamsim(store: WeightStore | None) -> Perceptual:
    """Fu et al. 2023, the ensemble; the library fetches its weights."""
    dreamsim = import_module("dreamsim")
    if store is None:
        raise ValueError("dreamsim: expected its weights; the library builds no random network")
    folder = store.folder or Path(torch.hub.get_dir(), "checkpoints")
    network, _ = dreamsim.dreamsim(device="cpu", cache_dir=str(folder / "dreamsim"))
    return Perceptual(network, _by_library("dreamsim ensemble", network), lambda images: images)


def _by_library(name: str, network: nn.Module) -> WeightsRecord:
    return WeightsRecord(name, tensors_hash(network.state_dict()))


def _to_signed(images: Tensor) -> Tensor:
    return images * 2 - 1
