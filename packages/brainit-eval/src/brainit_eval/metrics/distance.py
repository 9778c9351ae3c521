"""Distances of features: one less their correlation, as for EfficientNet-B1 and SwAV."""

from __future__ import annotations

import torch
from torch import Tensor

from brainit_eval.metrics.pixels import correlate_rows
from brainit_eval.records.numbers import rows_of


def correlation_distance(features_pred: Tensor, features_true: Tensor) -> Tensor:
    """One less the Pearson correlation of each reconstruction's features with its image's.

    Features of one value have no correlation, and count as uncorrelated.

    Args:
        features_pred: Features of the reconstructions, ``[n, ...]``; further axes are flattened.
        features_true: Features of the images seen, same shape, same order.

    Returns:
        ``[n]`` float64 in [0, 2]; lower is better.

    Raises:
        TypeError: If one is no tensor of real numbers.
        ValueError: If shapes differ, there are fewer than 2 features, or one is NaN or infinite.
    """
    pred, true = rows_of(features_pred, "features_pred"), rows_of(features_true, "features_true")
    if pred.shape != true.shape or pred.shape[0] < 1 or pred.shape[1] < 2:
        shapes = f"{list(pred.shape)} and {list(true.shape)}"
        raise ValueError(f"features: expected one shape, 2 columns or more, got {shapes}")
    for name, values in (("features_pred", pred), ("features_true", true)):
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"{name}: holds NaN or infinite values")
    return 1 - correlate_rows(pred, true)
