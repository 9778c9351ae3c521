"""Fetching what `prepare_nsd` reads from NSD's public bucket: anonymous, resumable, verified."""

from __future__ import annotations

from brainit_clusters.nsd_download.bucket import Bucket, TransferError
from brainit_clusters.nsd_download.fetch import Target, fetch_all, found
from brainit_clusters.nsd_download.listing import RemoteFile
from brainit_clusters.nsd_download.profile import Profile, select
from brainit_clusters.nsd_download.trials import trial_range

__all__ = [
    "Bucket",
    "Profile",
    "RemoteFile",
    "Target",
    "TransferError",
    "fetch_all",
    "found",
    "select",
    "trial_range",
]
