"""Own data: arrays, NIfTI, GIFTI, CIFTI, GLMsingle, BIDS betas become the same `dataset.h5`."""

from brainit_clusters.data.other.arrays import read_arrays
from brainit_clusters.data.other.bids import read_bids
from brainit_clusters.data.other.prepare import TrialsConfig, prepare_trials
from brainit_clusters.data.other.surface import read_cifti, read_gifti
from brainit_clusters.data.other.table import TrialTable, read_trial_table
from brainit_clusters.data.other.trials import TrialData
from brainit_clusters.data.other.volume import read_glmsingle, read_nifti
from brainit_clusters.data.places import Places

__all__ = [
    "Places",
    "TrialData",
    "TrialTable",
    "TrialsConfig",
    "prepare_trials",
    "read_arrays",
    "read_bids",
    "read_cifti",
    "read_gifti",
    "read_glmsingle",
    "read_nifti",
    "read_trial_table",
]
