"""From single trials to one response an image: z-scores within sessions, means over repeats."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from brainit_clusters.data.noise import RepeatNoise

Normalisation = Literal["published", "leak-free"]


@dataclass(frozen=True, eq=False)
class SessionBetas:
    """Single-trial betas of one session.

    Attributes:
        where: File or subject and session, for messages.
        trials: int [n], which of the subject's trials these are.
        values: float32 [n, n_voxels]; overwritten when they are averaged.
    """

    where: str
    trials: NDArray[np.intp]
    values: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class AveragedBetas:
    """Betas averaged over repeats.

    Attributes:
        betas: float32 [n_images, n_kept].
        kept: bool [n_voxels], voxels with a value in every trial and a variance in every session.
        n_nan: Voxels that were not finite in some trial.
        n_constant: Finite voxels that did not vary in some session.
    """

    betas: NDArray[np.float32]
    kept: NDArray[np.bool_]
    n_nan: int
    n_constant: int


def average_sessions(
    sessions: Iterable[SessionBetas],
    n_voxels: int,
    rows: NDArray[np.intp],
    train: NDArray[np.bool_],
    normalisation: Normalisation,
    noise: RepeatNoise | None = None,
) -> AveragedBetas:
    """Z-score each voxel in each session, average repeats; one session is in memory at a time.

    Args:
        sessions: Each session's trials, may be a generator.
        n_voxels: Columns of every session.
        rows: int [n_trials], the image (row of the result) that each trial showed.
        train: bool [n_trials], trials of training images.
        normalisation: "published": mean and standard deviation over all trials of the session;
            "leak-free": over its training trials alone. The standard deviation divides by n.
        noise: Gathers what repeats tell of the noise, if given.

    Raises:
        ValueError: if a session has fewer than two trials to normalise by.
    """
    counts = np.bincount(rows)
    sums = np.zeros((len(counts), n_voxels), np.float32)
    finite = np.ones(n_voxels, bool)
    varies = np.ones(n_voxels, bool)
    for session in sessions:
        values = session.values
        used = values[train[session.trials]] if normalisation == "leak-free" else values
        if len(used) < 2:
            raise ValueError(f"{session.where}: {len(used)} trials to normalise this session by")
        mean = used.mean(axis=0, dtype=np.float64)
        std = used.std(axis=0, dtype=np.float64)
        finite &= np.isfinite(values).all(axis=0)
        # Values that differ by less than float32's own rounding do not vary.
        varies &= ~(std <= np.finfo(np.float32).eps * np.abs(mean))
        with np.errstate(invalid="ignore", divide="ignore"):
            values -= mean.astype(np.float32)
            values *= (1 / std).astype(np.float32)
            for row, value in zip(rows[session.trials], values, strict=True):
                sums[row] += value
            if noise is not None:
                noise.add(rows[session.trials], values)
    if noise is not None:
        noise.finish(sums)
    kept = finite & varies
    betas = sums[:, kept]
    betas /= counts[:, None]
    return AveragedBetas(betas, kept, int((~finite).sum()), int((finite & ~varies).sum()))
