"""A method held against a control on the same images: paired differences with an interval."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from brainit_eval.records.numbers import real
from brainit_eval.statistics.readings import Reading, read_mean


def beats(
    scores: ArrayLike,
    control: ArrayLike,
    metric: str,
    name: str,
    *,
    higher_is_better: bool = True,
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> Reading:
    """Whether a method scores better than a control, image by image.

    Args:
        scores: The method's scores, ``[n]``.
        control: The control's scores of the same images, same order.
        metric: The metric.
        name: The control, such as ``grey_image``.
        higher_is_better: Direction of the metric.
        n_bootstrap: Resamples of images behind the interval.
        seed: Their seed.

    Returns:
        The mean difference, positive where the method is better; green where its whole interval
        is above 0. Detail: both means.

    Raises:
        ValueError: If lengths differ or a score is NaN.
    """
    own, other = (real(values, metric, finite=False) for values in (scores, control))
    if own.ndim != 1 or own.shape != other.shape:
        raise ValueError(f"{metric}: expected {list(own.shape)}, got {list(other.shape)}")
    if not (np.isfinite(own).all() and np.isfinite(other).all()):
        raise ValueError(f"{metric}: expected finite scores")
    gain = own - other if higher_is_better else other - own
    detail = {"method": float(own.mean()), "control": float(other.mean())}
    return read_mean(
        f"{metric}_over_{name}",
        f"{metric} less that of {name.replace('_', ' ')}",
        gain,
        0.0,
        "above",
        n_bootstrap=n_bootstrap,
        seed=seed,
        **detail,
    )


def recovery(
    decoded: ArrayLike,
    recovered: ArrayLike,
    metric: str,
    *,
    higher_is_better: bool = True,
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> Reading:
    """Generator recovery: how far scores are from those of true features, and what bounds them.

    `recovered` are scores of the images that the generator makes from the *true* features of what
    was seen. What it loses, no decoder can win back; where it scores no better than decoded
    features, the metric shows the generator's taste and not what was decoded.

    Args:
        decoded: Scores from decoded features, ``[n]``.
        recovered: Scores from true features of the same images, same order.
        metric: The metric.
        higher_is_better: Its direction.
        n_bootstrap: Resamples of images behind the interval.
        seed: Their seed.

    Returns:
        How much better true features score; green where the whole interval is above 0. In the
        detail the method are true features, the control decoded ones.

    Raises:
        ValueError: If lengths differ or a score is NaN.
    """
    reading = beats(
        recovered,
        decoded,
        metric,
        "decoded_features",
        higher_is_better=higher_is_better,
        n_bootstrap=n_bootstrap,
        seed=seed,
    )
    return replace(
        reading,
        name=f"{metric}_recovery",
        title=f"{metric} of true features less that of decoded features",
    )
