"""P-values of permutation tests, corrected for how many of them there are."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control

Correction: TypeAlias = Literal["holm", "benjamini-hochberg"]


def permutation_p(at_least: ArrayLike, n_permutations: int) -> NDArray[np.float64]:
    """One-sided p-value of a permutation test (Phipson and Smyth, 2010).

    The data as they are count as one of the permutations: p is never 0, and never below
    1 / (1 + n_permutations).

    Args:
        at_least: How many permutations gave as much as the data did, or more; any shape.
        n_permutations: How many there were.

    Returns:
        (1 + at_least) / (1 + n_permutations), in (0, 1].
    """
    p: NDArray[np.float64] = (1 + np.asarray(at_least, np.float64)) / (1 + n_permutations)
    return p


def corrected(p: ArrayLike, method: Correction) -> NDArray[np.float64]:
    """Correct p-values for their number.

    Args:
        p: Of any shape, in [0, 1]; all of them are one family. NaN marks what was not tested: it
            stays NaN and does not count.
        method: "holm" bounds the chance of any false positive (Holm, 1979); "benjamini-hochberg"
            bounds the expected share of false ones among the positives (1995).

    Returns:
        Adjusted p-values of the same shape: compare them with the level that you would have used.

    Raises:
        ValueError: if there is no such method or a value outside [0, 1].
    """
    values = np.asarray(p, np.float64)
    if method not in get_args(Correction):
        raise ValueError(f"correction is {method!r}, expected one of {get_args(Correction)}")
    tested = ~np.isnan(values)
    family = values[tested]
    if len(family) and not 0 <= family.min() <= family.max() <= 1:
        raise ValueError("p-values must lie in [0, 1]")
    result = np.full(values.shape, np.nan)
    if len(family):
        result[tested] = _holm(family) if method == "holm" else false_discovery_control(family)
    return result


def _holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    order = np.argsort(p)
    steps = np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * steps), 1)
    return adjusted
