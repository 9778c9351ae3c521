"""Numbers from a caller are checked before they are computed with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor


def real(values: ArrayLike | Sequence[ArrayLike], name: str, *, finite: bool = True) -> np.ndarray:
    """Real numbers as float64, any shape.

    Args:
        values: Bools, whole or floating-point numbers.
        name: What the caller calls them; errors start with it.
        finite: Whether NaN and infinite values are refused.

    Raises:
        TypeError: If they are no real numbers.
        ValueError: If rows differ in length, or a value is not finite.
    """
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{name}: expected rows of one length") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected real numbers, got {array.dtype}")
    result = array.astype(np.float64, copy=False)
    if finite and not np.isfinite(result).all():
        raise ValueError(f"{name}: expected finite values, got NaN or infinite ones")
    return result


def rows_of(values: object, name: str) -> Tensor:
    """Features ``[n, ...]`` as ``[n, D]``; what NaN counts is left to the metric.

    Raises:
        TypeError: If it is no tensor of real numbers.
        ValueError: If it has no axis of features.
    """
    if not isinstance(values, Tensor) or values.is_complex():
        kind = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise TypeError(f"{name}: expected a tensor of real features, got {kind}")
    if values.ndim < 2:
        raise ValueError(f"{name}: expected features [n, ...], got shape {list(values.shape)}")
    return values.flatten(1)
