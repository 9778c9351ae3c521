"""The Natural Scenes Dataset and its test-only companions, as the same `dataset.h5`."""

from brainit_clusters.data.nsd.config import NSDConfig, ScanConfig
from brainit_clusters.data.nsd.prepare import prepare_nsd

__all__ = ["NSDConfig", "ScanConfig", "prepare_nsd"]
