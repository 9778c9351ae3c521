"""Weakness on kinds of image: by category, and by distance to the training data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from brainit_eval.records.numbers import real
from brainit_eval.statistics.bootstrap import draw_weights, percentile_interval
from brainit_eval.statistics.readings import Reading, mean_interval

_LEVEL = 0.05


def weak_categories(
    scores: ArrayLike,
    categories: ArrayLike,
    *,
    higher_is_better: bool = True,
    n_permutations: int = 2000,
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> Reading:
    """Whether some category of images is reconstructed worse than the others.

    Every category's mean is held against that of all other images. The p value of a category is
    one-sided and corrected for the number of categories: the share of permutations of the labels
    in which the worst category, in standard errors, is as bad (Westfall and Young's maximum).

    Args:
        scores: One score per image, ``[n]``.
        categories: The category of each image, ``[n]``.
        higher_is_better: Direction of the scores.
        n_permutations: Permutations behind the p values.
        n_bootstrap: Resamples behind the intervals.
        seed: Seed of both.

    Returns:
        The reading of the worst category: its mean less that of the rest, with an interval
        that does not know that it was picked as the worst. Detail: every category's
        ``n, mean, low, high, difference, p``.

    Raises:
        ValueError: If lengths differ, a score is NaN, or there are fewer than two categories.
    """
    values, labels = _pairs(scores, categories, "categories")
    names, kind, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise ValueError(f"categories: expected 2 or more, got {names.tolist()}")
    member = np.eye(len(names))[kind]
    oriented = values if higher_is_better else -values
    z = _standard_scores(oriented[None], member, counts)[0]
    generator = np.random.default_rng(seed)
    shuffled = generator.permuted(np.tile(oriented, (n_permutations, 1)), axis=1)
    lowest = _standard_scores(shuffled, member, counts).min(1)
    p = (1 + (lowest[:, None] <= z + 1e-9).sum(0)) / (1 + n_permutations)
    rows = {
        str(name): _category(values, kind == index, float(p[index]), n_bootstrap, seed)
        for index, name in enumerate(names)
    }
    worst = int(z.argmin())
    low, high = _difference_interval(values, kind == worst, n_bootstrap, seed)
    detail = {"worst": str(names[worst]), "p": float(p[worst]), "categories": rows}
    value = rows[str(names[worst])]["difference"]
    return Reading(
        "weak_categories",
        f"mean score of the worst category ({names[worst]}) less that of the others",
        value=value,
        low=low,
        high=high,
        green=bool(p[worst] >= _LEVEL),
        rule=f"no category worse, corrected p < {_LEVEL}",
        detail=detail,
    )


def far_from_training(
    scores: ArrayLike,
    distance: ArrayLike,
    *,
    higher_is_better: bool = True,
    n_permutations: int = 2000,
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> Reading:
    """Whether images are reconstructed worse the farther they are from the training images.

    Args:
        scores: One score per image, ``[n]``.
        distance: Of each image seen to the nearest training image, as `nearest` gives, ``[n]``.
        higher_is_better: Direction of the scores.
        n_permutations: Permutations behind the one-sided p value.
        n_bootstrap: Resamples behind the intervals; ranks are those of the whole set.
        seed: Seed of both.

    Returns:
        Spearman's correlation of distance and quality (negative: worse when far). Detail: p, and
        ``n, mean, low, high`` of the scores in quarters of the distance, nearest first. Scores
        that are all equal give 0.

    Raises:
        ValueError: If lengths differ, a value is NaN, or there are fewer than eight images.
    """
    values, far = _pairs(scores, distance, "distance")
    far = real(far, "distance")
    if len(values) < 8:
        raise ValueError(f"distance: expected 8 images or more, got {len(values)}")
    x, y = _standard_ranks(far), _standard_ranks(values if higher_is_better else -values)
    rho = float(x @ y / len(x))
    generator = np.random.default_rng(seed)
    null = generator.permuted(np.tile(y, (n_permutations, 1)), axis=1) @ x / len(x)
    p = float((1 + (null <= rho + 1e-9).sum()) / (1 + n_permutations))
    weights = draw_weights({"images": np.arange(len(x))}, n_bootstrap, seed)["images"]
    quarters = [
        _summary(values[part], n_bootstrap, seed)
        for part in np.array_split(np.argsort(far, kind="stable"), 4)
    ]
    low, high = percentile_interval(_weighted_correlation(x, y, weights))
    return Reading(
        "far_from_training",
        "rank correlation of quality and distance to the nearest training image",
        value=rho,
        low=low,
        high=high,
        green=p >= _LEVEL,
        rule=f"not worse when far, p < {_LEVEL}",
        detail={"p": p, "quarters": quarters},
    )


def _pairs(scores: ArrayLike, other: ArrayLike, name: str) -> tuple[np.ndarray, np.ndarray]:
    values, others = real(scores, "scores", finite=False), np.asarray(other)
    if values.ndim != 1 or others.shape != values.shape:
        raise ValueError(f"{name}: expected {list(values.shape)}, got {list(others.shape)}")
    if not np.isfinite(values).all():
        raise ValueError(
            f"scores: image {int((~np.isfinite(values)).argmax())} has no finite score"
        )
    if others.dtype.kind == "f" and not np.isfinite(others).all():
        raise ValueError(f"{name}: expected finite values")
    return values, others


def _standard_scores(values: np.ndarray, member: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean of every category less the overall mean, in its permutation standard errors."""
    n = values.shape[1]
    spread = values.std(1, ddof=1, keepdims=True)
    error = np.where(spread > 0, spread, 1.0) * np.sqrt(1 / counts - 1 / n)
    result: np.ndarray = (values @ member / counts - values.mean(1, keepdims=True)) / error
    return result


def _category(
    values: np.ndarray, inside: np.ndarray, p: float, n_bootstrap: int, seed: int
) -> dict[str, Any]:
    difference = float(values[inside].mean() - values[~inside].mean())
    return {**_summary(values[inside], n_bootstrap, seed), "difference": difference, "p": p}


def _summary(values: np.ndarray, n_bootstrap: int, seed: int) -> dict[str, Any]:
    low, high = mean_interval(values, n_bootstrap, seed)
    return {"n": len(values), "mean": float(values.mean()), "low": low, "high": high}


def _difference_interval(
    values: np.ndarray, inside: np.ndarray, n_bootstrap: int, seed: int
) -> tuple[float, float]:
    groups = {"in": np.flatnonzero(inside), "out": np.flatnonzero(~inside)}
    weights = draw_weights(groups, n_bootstrap, seed)
    means = {name: weights[name] @ values[index] / len(index) for name, index in groups.items()}
    return percentile_interval(means["in"] - means["out"])


def _standard_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of mean 0 and variance 1; ties share their mean rank, and equal values have none."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(counts) - (counts - 1) / 2)[place]
    centred: np.ndarray = ranks - ranks.mean()
    return centred / max(float(ranks.std()), 1e-12)


def _weighted_correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pearson correlation in every resample, ``[B]``; NaN where nothing varies."""
    share = weights / weights.sum(1, keepdims=True)
    mean_x, mean_y = share @ x, share @ y
    spread = (share @ x**2 - mean_x**2) * (share @ y**2 - mean_y**2)
    covariance = share @ (x * y) - mean_x * mean_y
    return np.where(spread > 0, covariance / np.sqrt(np.maximum(spread, 1e-300)), np.nan)
