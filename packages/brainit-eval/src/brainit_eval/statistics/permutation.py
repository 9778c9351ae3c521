"""Paired permutation tests between two methods, Holm's correction, and the p that n can reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from brainit_eval.records.numbers import real

_BLOCK = 256  # permutations held at a time
_TIE = 1e-12  # sums of the same numbers in another order differ by rounding, not in value


@dataclass(frozen=True)
class PairedTest:
    """Result of a sign-flip test.

    Attributes:
        difference: Mean over subjects of the mean difference.
        p: Two-sided p-value.
        smallest: The smallest p that the test could have given.
        exact: Whether all sign patterns were gone through.
    """

    difference: float
    p: float
    smallest: float
    exact: bool


def sign_flip_test(
    differences: Mapping[str, ArrayLike],
    image_ids: Mapping[str, ArrayLike],
    *,
    n_permutations: int = 10_000,
    seed: int = 0,
) -> PairedTest:
    """Whether two methods differ on these subjects: signs are flipped over images.

    Without a difference between methods, which of the two made which reconstruction of an image
    does not matter. Images are flipped within each subject; where all subjects saw the same
    images, an image is flipped for all of them at once, as what suits one method suits it in
    every subject, and flips on their own would give p-values that are too small. The test speaks
    of other images, not of other subjects: see `subject_test`.

    Args:
        differences: Per subject ``[n]``: score of one method less that of the other.
        image_ids: Per subject ``[n]`` ids, each once.
        n_permutations: Random sign patterns, where there are more than so many in all.
        seed: Seed.

    Returns:
        Difference and two-sided p, (1 + hits) / (1 + permutations) where drawn (Phipson and
        Smyth 2010).

    Raises:
        ValueError: If there are no images, ids do not fit or repeat, or a difference is not finite.
    """
    units = _units(differences, image_ids)
    total = abs(units.sum())
    n = len(units)
    exact = n < 63 and 2**n <= n_permutations
    number = 2**n if exact else n_permutations
    generator = np.random.default_rng(seed)
    hits = 0
    for start in range(0, number, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, number))
        flips = (
            (rows[:, None] >> np.arange(n)) & 1
            if exact
            else generator.integers(0, 2, (len(rows), n))
        )
        sums = np.abs((1 - 2 * flips) @ units)
        hits += int((sums >= total - _TIE * np.abs(units).sum()).sum())
    p = hits / number if exact else (1 + hits) / (1 + number)
    return PairedTest(float(units.sum()), p, 2 / 2**n if exact else 1 / (1 + number), exact)


def subject_test(differences: ArrayLike) -> PairedTest:
    """Whether two methods differ over people: all sign patterns of the subjects' differences.

    Args:
        differences: ``[subjects]`` mean difference of each.

    Returns:
        Difference and two-sided p, exact up to 16 subjects. With n subjects it is never below
        2 / 2^n: with four, 0.125, whatever the data (0.0625 one-sided; see `attainable_p`).

    Raises:
        ValueError: If there is no subject or a difference is not finite.
    """
    values = real(differences, "subjects", finite=False)
    if values.ndim != 1:
        raise ValueError(f"subjects: expected [subjects] differences, got {list(values.shape)}")
    names = [str(place) for place in range(len(values))]
    single = {name: [value] for name, value in zip(names, values, strict=True)}
    ids = {name: [name] for name in names}
    return sign_flip_test(single, ids, n_permutations=2**16)


def attainable_p(n: int, *, two_sided: bool = False) -> float:
    """The smallest p that a sign-flip test over n units can give: 1 / 2^n, or twice that.

    Raises:
        ValueError: If ``n`` is below 1.
    """
    if n < 1:
        raise ValueError(f"n: expected 1 or more, got {n}")
    return min(1.0, (2.0 if two_sided else 1.0) / 2.0**n)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjusted p-values: the chance of any false finding stays below alpha.

    Args:
        p_values: Name of a test, such as a metric, to its p.

    Returns:
        The adjusted values, in the order given.

    Raises:
        ValueError: If a value is not in [0, 1].
    """
    for name, p in p_values.items():
        if not 0 <= p <= 1:
            raise ValueError(f"{name}: expected a p-value in [0, 1], got {p}")
    adjusted: dict[str, float] = {}
    largest = 0.0
    for place, name in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def _units(differences: Mapping[str, ArrayLike], image_ids: Mapping[str, ArrayLike]) -> np.ndarray:
    """What is flipped as one: shares of the mean over subjects, ``[units]``."""
    if not differences or set(differences) != set(image_ids):
        raise ValueError("differences and image_ids: expected the same subjects, one or more")
    shares: list[np.ndarray] = []
    pools: list[np.ndarray] = []
    for name, given in differences.items():
        values, ids = real(given, name, finite=False), np.asarray(image_ids[name])
        if values.ndim != 1 or not values.size or ids.shape != values.shape:
            raise ValueError(f"{name}: expected [n] differences and ids, got {list(values.shape)}")
        if not np.isfinite(values).all() or len(np.unique(ids)) != len(ids):
            raise ValueError(f"{name}: expected finite differences and each image id once")
        order = np.argsort(ids)
        shares.append(values[order] / len(values) / len(differences))
        pools.append(ids[order])
    if all(np.array_equal(pool, pools[0]) for pool in pools):
        joint: np.ndarray = np.sum(shares, axis=0)
        return joint
    return np.concatenate(shares)
