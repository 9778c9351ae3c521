"""Single trials of one session: z-scores, and which voxels cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Normalisation = Literal["published", "leak-free"]
REASONS = ("constant", "outside", "nan")
"""Why a voxel is dropped, codes 1, 2, 3: it does not vary in a session, is 0 in all of a session's
trials (outside the field of view), or is not finite in some trial. The highest code counts."""
_BLOCK = 2048


@dataclass(frozen=True, eq=False)
class Session:
    """One session of one subject.

    Attributes:
        where: File or subject and session, for messages.
        trials: int [n], which of the subject's trials these are, ascending.
        read: From a range of voxels to a fresh float32 [n, n_voxels] of their betas.
    """

    where: str
    trials: NDArray[np.intp]
    read: Callable[[slice], NDArray[np.float32]]


def normalise(
    values: NDArray[np.float32], used: NDArray[np.bool_], where: str
) -> NDArray[np.uint8]:
    """Z-score each voxel of one session in place.

    Args:
        values: float32 [n_trials, n_voxels]; the z-scores afterwards.
        used: bool [n_trials], the trials whose mean and standard deviation (over n) are taken.
        where: The session, for messages.

    Returns:
        uint8 [n_voxels]: 0, or the code of `REASONS` why the voxel is of no use.

    Raises:
        ValueError: if fewer than two trials are used, or a trial has no finite value.
    """
    if used.sum() < 2:
        raise ValueError(f"{where}: {used.sum()} trials to normalise this session by")
    reason = np.zeros(values.shape[1], np.uint8)
    some_finite = np.zeros(len(values), bool)
    # Blocks of voxels keep the float64 intermediates small.
    for start in range(0, values.shape[1], _BLOCK):
        block = values[:, start : start + _BLOCK]
        here = reason[start : start + _BLOCK]
        finite = np.isfinite(block)
        some_finite |= finite.any(axis=1)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            sample = block if used.all() else block[used]
            mean = sample.mean(axis=0, dtype=np.float64)
            std = sample.std(axis=0, dtype=np.float64)
            # Values that differ by less than float32's own rounding do not vary.
            here[std <= np.finfo(np.float32).eps * np.abs(mean)] = 1
            here[(block == 0).all(axis=0)] = 2
            here[~finite.all(axis=0)] = 3
            block -= mean.astype(np.float32)
            block *= (1 / std).astype(np.float32)
    if not some_finite.all():
        raise ValueError(f"{where}: trial {np.flatnonzero(~some_finite)[0]} has no finite beta")
    return reason
