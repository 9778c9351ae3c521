"""What a network sees of pictures, by the sizes, weights and layer behind one metric."""

from __future__ import annotations

import torch
from torch import Tensor

from brainit_eval.networks import WeightStore, load_network
from brainit_eval.pictures.stream import FeatureFunction
from brainit_eval.protocol import Protocol


def network_features(protocol: Protocol, metric: str, store: WeightStore | None) -> FeatureFunction:
    """Features as one metric of a protocol takes them.

    Args:
        protocol: The protocol.
        metric: Its metric: a two-way identification or a correlation distance.
        store: Where weights lie. None: random weights, for tests of the machinery only.

    Returns:
        A function from pictures ``[n, 3, H, W]`` in [0, 1] to the layer's name and its features
        ``[n, D]``.

    Raises:
        ImportError: If the network's library is not installed.
        FileNotFoundError: If its weights are not here and cannot be fetched.
        ValueError: If the metric is none of the protocol's, or none of features.
    """
    spec = protocol.metrics.get(metric)
    if spec is None or not spec.layer:
        known = [name for name, spec in protocol.metrics.items() if spec.layer]
        raise ValueError(f"{protocol.name}: expected a metric of {', '.join(known)}, got {metric}")
    network, prepare = load_network(spec.network, spec.weights, store), protocol.prepare(metric)

    @torch.inference_mode()
    def features(images: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = network(prepare(images), (spec.layer,))
        return found

    return features
