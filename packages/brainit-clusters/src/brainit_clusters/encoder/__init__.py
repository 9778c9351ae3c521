"""The universal brain encoder (extra `[encoder]`); scores alone need no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brainit_clusters._extras import import_extra

if TYPE_CHECKING:
    from brainit_clusters.encoder.backbone import Backbone, load_backbone
    from brainit_clusters.encoder.config import EncoderConfig
    from brainit_clusters.encoder.fit import FitConfig, fit_encoder, fit_subject
    from brainit_clusters.encoder.loss import encoder_loss
    from brainit_clusters.encoder.model import BrainEncoder
    from brainit_clusters.encoder.predict import (
        predict_external,
        predict_responses,
        predict_subjects,
    )
    from brainit_clusters.encoder.reference import import_reference_encoder
    from brainit_clusters.encoder.score import fraction_of_ceiling, voxel_correlation
    from brainit_clusters.encoder.validate import VoxelScores, validate_encoder

_HOMES = {
    "Backbone": "backbone",
    "BrainEncoder": "model",
    "EncoderConfig": "config",
    "FitConfig": "fit",
    "VoxelScores": "validate",
    "encoder_loss": "loss",
    "fit_encoder": "fit",
    "fit_subject": "fit",
    "fraction_of_ceiling": "score",
    "import_reference_encoder": "reference",
    "load_backbone": "backbone",
    "predict_external": "predict",
    "predict_responses": "predict",
    "predict_subjects": "predict",
    "validate_encoder": "validate",
    "voxel_correlation": "score",
}

__all__ = [
    "Backbone",
    "BrainEncoder",
    "EncoderConfig",
    "FitConfig",
    "VoxelScores",
    "encoder_loss",
    "fit_encoder",
    "fit_subject",
    "fraction_of_ceiling",
    "import_reference_encoder",
    "load_backbone",
    "predict_external",
    "predict_responses",
    "predict_subjects",
    "validate_encoder",
    "voxel_correlation",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_extra(f"{__name__}.{_HOMES[name]}", "encoder"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
