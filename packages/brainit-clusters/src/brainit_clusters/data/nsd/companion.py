"""What NSD-synthetic and NSD-imagery have in common: one more session, all of it for testing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainit_clusters.data.dataset import ImageArray, SubjectData, write_dataset
from brainit_clusters.data.nsd.scans import Scans
from brainit_clusters.data.nsd.space import subject_name
from brainit_clusters.data.sessions import Session
from brainit_clusters.data.subject import LEFT_OUT, Recording, Repeats, subject_data


def companion_recording(
    scans: Scans,
    sessions: Sequence[Session],
    image_id: NDArray[np.int64],
    attributes: Mapping[str, Any],
) -> Recording:
    """One subject's trials; noise ceilings come from their own repeats.

    Args:
        scans: The subject's files.
        sessions: What is z-scored together.
        image_id: int64 [n_trials], negative where a trial is left out, a number a condition.
        attributes: What else the dataset shall say of the subject.
    """
    roi, labels = scans.atlases
    return Recording(
        subject_name(scans.subject),
        sessions,
        image_id,
        scans.places,
        roi=roi,
        roi_labels=labels,
        attributes=attributes,
    )


def write_companion(
    output: Path,
    images: ImageArray,
    image_id: NDArray[np.int64],
    recordings: Sequence[Recording],
    repeats: Repeats,
    attributes: Mapping[str, Any],
) -> Path:
    """Write a dataset whose rows are all of the split "test"; see `write_dataset`."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
        subjects = _subjects(recordings, repeats, Path(folder))
        return write_dataset(output, images, image_id, subjects, attributes)


def _subjects(
    recordings: Sequence[Recording], repeats: Repeats, folder: Path
) -> Iterator[SubjectData]:
    for recording in recordings:
        split = np.where(np.unique(recording.image_id) < 0, LEFT_OUT, "test")
        yield subject_data(recording, split, "published", repeats, folder / recording.name)
