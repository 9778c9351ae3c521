"""Colours of groups: the same in every picture, label table and lookup file."""

from __future__ import annotations

from colorsys import hsv_to_rgb

import numpy as np
from numpy.typing import NDArray

_GOLDEN = 0.618034


def distinct_colours(count: int) -> NDArray[np.float64]:
    """Hues a golden angle apart at three levels of lightness: neighbours in number differ.

    Args:
        count: How many.

    Returns:
        [count, 3], red, green and blue in [0, 1]; the first `n` do not depend on `count`.
    """
    colours = [
        hsv_to_rgb(i * _GOLDEN % 1, 0.85 - 0.25 * (i % 2), 1 - 0.22 * (i % 3)) for i in range(count)
    ]
    return np.array(colours, np.float64).reshape(count, 3)
