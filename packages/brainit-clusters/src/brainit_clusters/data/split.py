"""Which images train, validate and test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def split_images(
    image_id: NDArray[np.int64], shared: NDArray[np.int64], fraction: float, seed: tuple[int, ...]
) -> NDArray[np.str_]:
    """Name each image's split: shared images test, a seeded share of the others val, rest train.

    Args:
        image_id: [n] the subject's images.
        shared: Ids of the shared images.
        fraction: Share of the images not shared that is held out, rounded to whole images.
        seed: Chooses them.

    Returns:
        str [n].
    """
    split = np.where(np.isin(image_id, shared), "test", "train").astype("U5")
    own = np.flatnonzero(split == "train")
    held_out = np.random.default_rng(seed).permutation(own)[: round(fraction * len(own))]
    split[held_out] = "val"
    return split
