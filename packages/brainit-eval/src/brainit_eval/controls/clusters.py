"""How much of a two-way score is the category alone.

With K balanced clusters, between-cluster accuracy q and chance within, two-way identification is
0.5 / K + (1 - 1 / K) q: 1 - 1 / (2 K) for a decoder that knows the cluster and nothing else
(Shirakawa et al., arXiv 2405.10078). At K = 40 that is 98.75 %.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from brainit_eval.statistics.bootstrap import bootstrap_two_way, draw_weights, percentile_interval
from brainit_eval.statistics.readings import Reading, read_interval


def cluster_line(clusters: int) -> float:
    """Two-way score of a decoder that knows the cluster perfectly and nothing else, 1 - 1/(2K).

    Raises:
        ValueError: If there are no clusters.
    """
    return expected_two_way(clusters, 1.0)


def expected_two_way(clusters: int, between: float) -> float:
    """Two-way score with chance within K balanced clusters, 0.5 / K + (1 - 1 / K) q.

    Args:
        clusters: K, 1 or more.
        between: q, two-way accuracy against images of other clusters, in [0, 1].

    Raises:
        ValueError: If a number is outside its range.
    """
    if clusters < 1 or not 0 <= between <= 1:
        raise ValueError(
            f"expected 1 cluster or more and an accuracy in [0, 1], got {clusters} and {between}"
        )
    return 0.5 / clusters + (1 - 1 / clusters) * between


def within_clusters(
    success: np.ndarray, labels: ArrayLike, *, n_bootstrap: int = 2000, seed: int = 0
) -> Reading:
    """Two-way identification among images of the same category or cluster.

    With ``s`` the share of distractors in the image's own cluster (1 / K for many images in K
    balanced clusters), ``overall = s * within + (1 - s) * between`` without approximation.

    Args:
        success: ``[n, n]`` bool, `TwoWay.success`.
        labels: The cluster of each image, ``[n]``.
        n_bootstrap: Resamples of images, as pairs and as distractors, behind the interval.
        seed: Their seed.

    Returns:
        Share of same-cluster comparisons won, green where it is above 0.5. Detail: ``clusters``
        (K), ``same_share`` (s), ``between`` (q), ``overall``, ``line`` (what perfect knowledge of
        the cluster alone gives here, 1 - s / 2), ``expected`` (what q alone gives here,
        s / 2 + (1 - s) q), and ``per_cluster`` with its ``n`` and ``two_way``, None for a
        cluster of one image.

    Raises:
        TypeError: If ``success`` is no table of bools.
        ValueError: If labels do not fit, there are fewer than two clusters, or no cluster holds
            two images.
    """
    names, kind = np.unique(np.asarray(labels), return_inverse=True)
    if not isinstance(success, np.ndarray) or success.dtype != np.bool_ or success.ndim != 2:
        raise TypeError("success: expected a table of bools, as of two_way")
    n = len(success)
    if success.shape != (n, n) or kind.shape != (n,):
        raise ValueError(f"labels: expected {n}, one per image, got {list(kind.shape)}")
    same = (kind[:, None] == kind) & ~np.eye(n, dtype=bool)
    if len(names) < 2 or not same.any():
        raise ValueError("labels: expected 2 clusters or more, one of them of 2 images or more")
    wins = success & same
    share = float(same.sum() / (n * (n - 1)))
    within = float(wins.sum() / same.sum())
    between = float((success.sum() - wins.sum()) / (n * (n - 1) - same.sum()))
    weights = draw_weights({"images": np.arange(n)}, n_bootstrap, seed)["images"]
    detail: dict[str, Any] = {
        "clusters": len(names),
        "same_share": share,
        "between": between,
        "overall": float(success.sum() / (n * (n - 1))),
        "line": 1 - share / 2,
        "expected": share / 2 + (1 - share) * between,
        "per_cluster": {
            str(name): _one(wins[:, kind == index]) for index, name in enumerate(names)
        },
    }
    interval = percentile_interval(bootstrap_two_way(success, weights, same))
    title = f"two-way identification within {len(names)} clusters"
    return read_interval("within_clusters", title, within, interval, 0.5, "above", **detail)


def _one(wins: np.ndarray) -> dict[str, float | None]:
    size = wins.shape[1]
    return {"n": size, "two_way": float(wins.sum() / (size * (size - 1))) if size > 1 else None}
