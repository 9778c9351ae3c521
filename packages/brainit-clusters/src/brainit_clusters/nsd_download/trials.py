"""Some trials of a session: a byte range of an fsaverage `.mgh`, written as a smaller `.mgh`."""

from __future__ import annotations

import struct
from pathlib import Path

from brainit_clusters.nsd_download.bucket import Bucket
from brainit_clusters.nsd_download.fetch import Target
from brainit_clusters.nsd_download.listing import RemoteFile

_HEADER = 284  # bytes, fixed by the MGH format
_FIELDS = struct.Struct(">5i i")  # version, width, height, depth, frames; type
_FLOAT32 = 3


def trial_range(bucket: Bucket, file: RemoteFile, root: Path, first: int, last: int) -> Target:
    """Trials `first` to `last` of a session, 1-based, both included.

    Frames of an `.mgh` follow each other, so these are one byte range; it and the header, with the
    number of frames set right, are a valid file. Its name is one that `prepare_nsd` does not read:
    `lh.betas_session01.mgh` gives `lh.session01_trials001-100.mgh`.

    Args:
        bucket: Where from; the header is read at once.
        file: Betas of one session and hemisphere.
        root: NSD root.
        first: First trial.
        last: Last trial.

    Raises:
        ValueError: if the header is not that of betas, or the session has no such trials.
        TransferError: see `Bucket.stream`.
    """
    if file.size < _HEADER:
        raise ValueError(f"{file.key}: {file.size} bytes, too few for an .mgh header")
    header = b"".join(bucket.stream(file, 0, _HEADER))
    version, width, height, depth, n_trials, kind = _FIELDS.unpack_from(header)
    if (version, height, depth, kind) != (1, 1, 1, _FLOAT32) or width < 1 or n_trials < 1:
        raise ValueError(f"{file.key}: not an .mgh of float32, one value a vertex and trial")
    step = 4 * width
    if file.size < _HEADER + n_trials * step:
        raise ValueError(f"{file.key}: {file.size} bytes, too few for {n_trials} x {width} values")
    if not 1 <= first <= last <= n_trials:
        raise ValueError(f"trials {first}-{last}: {file.key} has trials 1-{n_trials}")
    head = _FIELDS.pack(version, width, height, depth, last - first + 1, kind)
    name = Path(file.key).name.replace("betas_session", "session").removesuffix(".mgh")
    path = (root / file.key).with_name(f"{name}_trials{first:03d}-{last:03d}.mgh")
    start, stop = _HEADER + (first - 1) * step, _HEADER + last * step
    return Target(file, path, start, stop, head + header[_FIELDS.size :])
