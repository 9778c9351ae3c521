"""Identification from ranks: which share of other images does the true image beat?

The reconstruction is fixed and the distractors are other true images, as in the code that
published two-way scores come from (several papers describe the transpose).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_BUFFER = 4_000_000  # doubles per block of both sets together: 32 MB beside the inputs
_TIE = 1e-12  # rounding of a float64 correlation stays far below; real differences far above


@dataclass(frozen=True)
class TwoWay:
    """Two-way identification of ``n`` reconstructions.

    Attributes:
        success: ``[n, n]`` bool; ``[i, j]`` is whether reconstruction ``j`` is closer to its own
            image than to image ``i``. The diagonal is False.
        ranks: ``[n]`` int64: how many distractors each reconstruction's own image fails to beat.
    """

    success: np.ndarray
    ranks: np.ndarray

    @property
    def per_image(self) -> np.ndarray:
        """Share of distractors beaten per reconstruction, ``[n]`` float64 in [0, 1]."""
        return 1.0 - self.ranks / (len(self.ranks) - 1)

    @property
    def value(self) -> float:
        """Two-way identification in [0, 1]; chance is 0.5."""
        return float(self.per_image.mean())


def two_way(features_pred: Tensor, features_true: Tensor) -> TwoWay:
    """Two-way identification by Pearson correlation over features.

    A distractor that ties with the true image (within 1e-12) counts as a failure, and so does
    every comparison that involves NaN or a feature vector of one value, so a collapsed model
    scores 0, not 0.5. Feature columns are streamed; sums and products are float64.

    Args:
        features_pred: Features of the reconstructions, ``[n, ...]``; further axes are flattened.
        features_true: Features of the images seen, same shape, same order.

    Returns:
        Success matrix and ranks, on the host.

    Raises:
        ValueError: If shapes differ, ``n`` is below 2, or there are fewer than 2 features.
    """
    pred, true = features_pred.flatten(1), features_true.flatten(1)
    if pred.shape != true.shape:
        raise ValueError(
            f"features: expected one shape, got {list(pred.shape)} and {list(true.shape)}"
        )
    if pred.shape[0] < 2 or pred.shape[1] < 2:
        raise ValueError(f"features: expected 2 rows and 2 columns or more, got {list(pred.shape)}")
    correlation = _correlations(true, pred)
    own = correlation.diagonal()
    success = (own - correlation) > _TIE  # False where either is NaN
    ranks = len(own) - 1 - success.sum(0)
    return TwoWay(success.cpu().numpy(), ranks.cpu().numpy())


def n_way(ranks: np.ndarray, ways: int) -> float:
    """Exact expected top-1 accuracy among ``ways`` candidates, from the ranks alone.

    With ``k`` of ``N - 1`` distractors not beaten, a draw of ``ways - 1`` without replacement
    misses them all with the hypergeometric chance C(N-1-k, ways-1) / C(N-1, ways-1).

    Args:
        ranks: ``[N]`` as in `TwoWay`.
        ways: Candidates including the true image, 2 to N; chance is ``1 / ways``.

    Returns:
        Accuracy in [0, 1]; ``n_way(ranks, 2)`` is the two-way score.

    Raises:
        ValueError: If ``ways`` is not between 2 and N.
    """
    others = len(ranks) - 1
    if not 2 <= ways <= others + 1:
        raise ValueError(f"ways: expected 2 to {others + 1}, got {ways}")
    beaten = others - np.asarray(ranks, dtype=np.float64)
    steps = np.arange(ways - 1)
    return float(np.prod(np.clip(beaten[:, None] - steps, 0, None) / (others - steps), 1).mean())


def _correlations(rows: Tensor, columns: Tensor) -> Tensor:
    """Pearson correlations ``[n, n]`` in float64; NaN where a vector has no variance."""
    n, width = rows.shape
    step = max(1, _BUFFER // (2 * n))
    mean_r, mean_c = _row_means(rows, step), _row_means(columns, step)
    products = rows.new_zeros(n, n, dtype=torch.float64)
    square_r, square_c = (rows.new_zeros(n, dtype=torch.float64) for _ in range(2))
    for start in range(0, width, step):
        r = rows[:, start : start + step].double() - mean_r
        c = columns[:, start : start + step].double() - mean_c
        products += r @ c.T
        square_r += (r * r).sum(1)
        square_c += (c * c).sum(1)
    products /= square_r.masked_fill(_constant(rows), torch.nan).sqrt()[:, None]
    return products / square_c.masked_fill(_constant(columns), torch.nan).sqrt()


def _row_means(values: Tensor, step: int) -> Tensor:
    total = values.new_zeros(len(values), 1, dtype=torch.float64)
    for start in range(0, values.shape[1], step):
        total += values[:, start : start + step].double().sum(1, keepdim=True)
    return total / values.shape[1]


def _constant(values: Tensor) -> Tensor:
    return values.amax(1) == values.amin(1)
