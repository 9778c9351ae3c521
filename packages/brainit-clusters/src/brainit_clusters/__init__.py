"""From fMRI scans to functional clusters of voxels that all subjects share (Brain-IT).

Needs no torch; the encoder (`brainit_clusters.encoder`) and the cortex plots
(`brainit_clusters.plot`) are imported by name and bring their own extras.
"""

from brainit_clusters.__about__ import __version__
from brainit_clusters.clusters import (
    VoxelClusters,
    fit_clusters,
    purity,
    subjects_per_cluster,
)
from brainit_clusters.data.dataset import BrainDataset, SubjectData, write_dataset
from brainit_clusters.data.external import ExternalResponses, write_external
from brainit_clusters.data.noise import noise_ceiling
from brainit_clusters.data.nsd import NSDConfig, prepare_nsd

__all__ = [
    "BrainDataset",
    "ExternalResponses",
    "NSDConfig",
    "SubjectData",
    "VoxelClusters",
    "__version__",
    "fit_clusters",
    "noise_ceiling",
    "prepare_nsd",
    "purity",
    "subjects_per_cluster",
    "write_dataset",
    "write_external",
]
