"""The sets of test images that papers name, derived from the design and the sessions held."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TEST_SETS = ("shared1000", "shared982", "shared907", "shared515")


def named_test_set(
    name: str,
    order: NDArray[np.int64],
    images: NDArray[np.int64],
    shared: NDArray[np.int64],
    n_trials: Sequence[int],
    early: int,
) -> NDArray[np.int64]:
    """Ids of the images of a named test set.

    On NSD the names say the number of images; a smaller experiment has fewer.

    Args:
        name: "shared1000": all that every subject was to see. "shared982": of these, what had
            been shown when the last sessions were not released yet. "shared907": what every
            subject saw. "shared515": what every subject saw at every planned repeat.
        order: int [n], which of its own images a subject sees at each trial, 0-based.
        images: int [n_subjects, n_own], id of each of a subject's images.
        shared: Ids of the shared images, ascending.
        n_trials: Trials that each subject of the design completed.
        early: Trials that had been released of a subject with all sessions, for "shared982".

    Returns:
        int [n], ascending.
    """
    if name == "shared1000":
        return shared
    if name == "shared982":
        return np.intersect1d(shared, images[0, order[:early]])
    least = 1
    if name == "shared515":
        least = int(np.bincount(order).max())
    found = shared
    for own, count in zip(images, n_trials, strict=True):
        seen = np.bincount(order[:count], minlength=len(own))
        found = np.intersect1d(found, own[seen >= least])
    return found
