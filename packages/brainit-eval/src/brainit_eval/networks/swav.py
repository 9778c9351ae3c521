"""SwAV's ResNet50 (Caron et al. 2020), from its checkpoint into torchvision's network.

The hub entry of its repository imports a module named ``src``, which collides with any project
that has one; the tensors need no code of theirs.
"""

from __future__ import annotations

from torch import nn
from torchvision.models import resnet50

from brainit_eval.networks.base import LayerReader, with_seed
from brainit_eval.networks.weights import WeightFile, WeightStore, assign, random_record

_HEADS = ("projection_head.", "prototypes.")


def build(name: str, file: WeightFile, store: WeightStore | None) -> LayerReader:
    """Build it; ``store`` None gives random weights.

    Raises:
        ValueError: If the file is no SwAV ResNet50.
    """
    network = with_seed(resnet50)
    network.fc = nn.Identity()  # SwAV has no classifier; features are read before it
    if store is None:
        return LayerReader(network, random_record(network))
    state, record = store.load(file)
    trunk = {key.removeprefix("module."): value for key, value in state.items()}
    assign(network, {k: v for k, v in trunk.items() if not k.startswith(_HEADS)}, file.name)
    return LayerReader(network, record)
