"""The universal brain encoder (extra `[encoder]`); scores alone need no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from brainit_clusters.encoder.backbone import Backbone, load_backbone
    from brainit_clusters.encoder.loss import encoder_loss
    from brainit_clusters.encoder.model import BrainEncoder, EncoderConfig
    from brainit_clusters.encoder.predict import predict_responses, predict_subjects
    from brainit_clusters.encoder.score import fraction_of_ceiling, voxel_correlation

_HOMES = {
    "Backbone": "backbone",
    "BrainEncoder": "model",
    "EncoderConfig": "model",
    "encoder_loss": "loss",
    "fraction_of_ceiling": "score",
    "load_backbone": "backbone",
    "predict_responses": "predict",
    "predict_subjects": "predict",
    "voxel_correlation": "score",
}

__all__ = [
    "Backbone",
    "BrainEncoder",
    "EncoderConfig",
    "encoder_loss",
    "fraction_of_ceiling",
    "load_backbone",
    "predict_responses",
    "predict_subjects",
    "voxel_correlation",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
