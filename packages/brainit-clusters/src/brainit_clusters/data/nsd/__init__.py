"""The Natural Scenes Dataset and its test-only companions, as the same `dataset.h5`."""

from brainit_clusters.data.nsd.config import NSDConfig, ScanConfig, trials_in
from brainit_clusters.data.nsd.imagery import prepare_imagery
from brainit_clusters.data.nsd.prepare import prepare_nsd
from brainit_clusters.data.nsd.summary import summarise_tree
from brainit_clusters.data.nsd.synthetic import prepare_synthetic

__all__ = [
    "NSDConfig",
    "ScanConfig",
    "prepare_imagery",
    "prepare_nsd",
    "prepare_synthetic",
    "summarise_tree",
    "trials_in",
]
