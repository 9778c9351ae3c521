"""Whether the low-level and the semantic branch speak of the same image."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from brainit_eval.metrics.identification import two_way
from brainit_eval.pictures.stream import (
    FeatureFunction,
    PictureArray,
    extract,
    picture_shape,
    thumbnails,
)
from brainit_eval.statistics.bootstrap import bootstrap_two_way, draw_weights, percentile_interval
from brainit_eval.statistics.readings import Reading, read_interval


def branch_agreement(
    coarse: PictureArray,
    final: PictureArray,
    *,
    features: FeatureFunction = thumbnails,
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> Reading:
    """Whether the coarse image is closer to its own final image than to those of other brains.

    The value of an image is the share of the other final images that are less like its coarse
    image than its own final image is: 0.5 for branches that were shuffled against each other, 1
    for branches that agree. The mean similarities of own and of shuffled pairs are in the detail.
    Whether the branches are *right* is another question; two branches can agree on nonsense.

    Args:
        coarse: What the low-level branch made, ``[n, 3, H, W]``.
        final: What came out in the end, in the same order; its size may be another.
        features: What similarity is taken of; the last of its features counts.
        n_bootstrap: Resamples of images, as pairs and as distractors, behind the interval.
        seed: Their seed.

    Raises:
        ValueError: If the numbers of images differ or values are not as stated.
    """
    number, expected = picture_shape(coarse, "coarse")[0], picture_shape(final, "final")[0]
    if number != expected:
        raise ValueError(f"branches: expected {expected} coarse images, got {number}")
    first, second = (
        extract(images, features, name) for images, name in ((coarse, "coarse"), (final, "final"))
    )
    result = two_way(second, first)  # the coarse image is held against every final one
    n = len(result.ranks)
    weights = draw_weights({"images": np.arange(n)}, n_bootstrap, seed)["images"]
    interval = percentile_interval(bootstrap_two_way(result.success, weights))
    own, shuffled = _similarities(first, second)
    return read_interval(
        "branch_agreement",
        "two-way identification of the final image by its coarse one",
        result.value,
        interval,
        0.5,
        "above",
        result.per_image,
        n=n,
        similarity_own=own,
        similarity_shuffled=shuffled,
    )


def _similarities(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Mean Pearson correlation of pairs, and over all pairs of different images."""
    a, b = (x.double() - x.double().mean(1, keepdim=True) for x in (a, b))
    a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    own = float((a * b).sum())
    n = len(a)
    return own / n, (float(a.sum(0) @ b.sum(0)) - own) / (n * (n - 1))
