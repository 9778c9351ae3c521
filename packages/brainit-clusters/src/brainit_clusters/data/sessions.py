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
_CONSTANT, _OUTSIDE, _NAN = 1, 2, 3
_BLOCK = 2**14


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
    reason = np.empty(values.shape[1], np.uint8)
    some_finite = np.zeros(len(values), bool)
    # Blocks of voxels keep the float64 intermediates within the processor's cache.
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for start in range(0, values.shape[1], _BLOCK):
            block = values[:, start : start + _BLOCK]
            here = reason[start : start + _BLOCK]
            offset, scale, here[:] = _measure(block, used)
            some_finite |= (here != _NAN).any() or np.isfinite(block).any(axis=1)
            for value in block:
                value -= offset
                value *= scale
    if not some_finite.all():
        raise ValueError(f"{where}: trial {np.flatnonzero(~some_finite)[0]} has no finite beta")
    return reason


def _measure(
    values: NDArray[np.float32], used: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    """Mean and 1 / standard deviation of each voxel, and the code why it is of no use.

    Sums are of differences to a trial that is used: of the size of the deviation, and 0 exactly
    where nothing varies. So one pass in float64 loses nothing.
    """
    first = values[np.argmax(used)].astype(np.float64)
    total, squares, others, difference = np.zeros((4, len(first)))
    for value, is_used in zip(values, used, strict=True):
        np.subtract(value, first, out=difference)
        if is_used:
            total += difference
        np.square(difference, out=difference)
        into = squares if is_used else others
        into += difference
    shift, all_squares = total / used.sum(), squares + others
    mean = first + shift
    std = np.sqrt(np.maximum(squares / used.sum() - shift**2, 0))
    reason = np.zeros(len(first), np.uint8)
    # Values that differ by less than float32's own rounding do not vary.
    reason[std <= np.finfo(np.float32).eps * np.abs(mean)] = _CONSTANT
    reason[(first == 0) & (all_squares == 0)] = _OUTSIDE
    reason[~np.isfinite(all_squares)] = _NAN
    return mean.astype(np.float32), (1 / std).astype(np.float32), reason
