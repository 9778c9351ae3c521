"""AlexNet, InceptionV3 and EfficientNet-B1: torchvision's ImageNet classifiers."""

from __future__ import annotations

from functools import partial

from torchvision import models

from brainit_eval.networks.base import LayerReader, with_seed
from brainit_eval.networks.weights import WeightFile, WeightStore, fill

_MAKE = {
    "alexnet": models.alexnet,
    # Passing weights to torchvision sets transform_input; loading a file later does not, and the
    # features would differ without a word.
    "inception_v3": partial(models.inception_v3, transform_input=True, init_weights=False),
    "efficientnet_b1": models.efficientnet_b1,
}


def build(name: str, file: WeightFile, store: WeightStore | None) -> LayerReader:
    """Build one of them; ``store`` None gives random weights.

    Raises:
        ValueError: If the file is not this network's.
    """
    network = with_seed(_MAKE[name])
    return LayerReader(network, fill(network, file, store))
