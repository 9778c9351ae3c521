"""Brain Interaction Transformer (BIT): fMRI voxels to localised image features.

Source: Brain-IT (arXiv 2510.25976).
"""

from __future__ import annotations

from brainit_bit.__about__ import __version__
from brainit_bit.adaptation import (
    add_subject_like,
    freeze_for_adaptation,
    nearest_voxels,
)
from brainit_bit.calibration import LevelCalibration
from brainit_bit.losses import info_nce, multi_scale_info_nce
from brainit_bit.model import BITConfig, BITOutput, BrainInteractionTransformer
from brainit_bit.query_grid import grid_queries
from brainit_bit.sampling import draw_queries, draw_voxels
from brainit_bit.whitening import LevelWhitening

__all__ = [
    "BITConfig",
    "BITOutput",
    "BrainInteractionTransformer",
    "LevelCalibration",
    "LevelWhitening",
    "__version__",
    "add_subject_like",
    "draw_queries",
    "draw_voxels",
    "freeze_for_adaptation",
    "grid_queries",
    "info_nce",
    "multi_scale_info_nce",
    "nearest_voxels",
]
