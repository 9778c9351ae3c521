"""The nearest training image of every test image or prediction, in given features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_BUFFER = 16_000_000  # values of training features that are held at a time


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest training image of each of ``n`` rows.

    Attributes:
        index: ``[n]`` int64 rows of the training set; of equally near ones the first.
        distance: ``[n]`` float64, 1 less the Pearson correlation over features, from 0 to 2.
    """

    index: np.ndarray
    distance: np.ndarray


def nearest(features: Tensor, train_features: Tensor) -> Neighbours:
    """Find the nearest training image of every row by Pearson correlation over features.

    Training features are read block by block, so they may be memory-mapped. Means and norms are
    taken in float64 and products in float32: distances are good to about 1e-6.

    Args:
        features: ``[n, ...]`` of test images, or as a decoder predicts them.
        train_features: ``[m, ...]`` of the training images, same trailing shape.

    Raises:
        ValueError: If shapes differ, or a row is of one value or holds NaN, so that it has no
            correlation.
    """
    if features.shape[1:] != train_features.shape[1:] or 0 in train_features.shape:
        raise ValueError(
            f"train_features: expected shape [m, {', '.join(map(str, features.shape[1:]))}], "
            f"got {list(train_features.shape)}"
        )
    queries = _standardise(features, "features", 0)
    step = max(1, _BUFFER // max(1, queries.shape[1]))
    best = torch.full((len(queries),), -torch.inf, device=queries.device)
    index = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    for start in range(0, len(train_features), step):
        block = _standardise(train_features[start : start + step], "train_features", start)
        value, place = (queries @ block.to(queries.device).T).max(1)
        better = value > best
        best, index = torch.where(better, value, best), torch.where(better, place + start, index)
    return Neighbours(index.cpu().numpy(), (1 - best.double()).clamp(min=0).cpu().numpy())


def _standardise(features: Tensor, name: str, start: int) -> Tensor:
    """Rows ``[n, D]`` float32 of mean 0 and norm 1."""
    rows = features.flatten(1).double()
    constant = ~(rows.amax(1) > rows.amin(1))  # NaN fails the comparison too
    if constant.any():
        where = start + int(constant.nonzero()[0])
        raise ValueError(f"{name}: row {where} is of one value or NaN and has no correlation")
    rows = rows - rows.mean(1, keepdim=True)
    unit: Tensor = rows / rows.norm(dim=1, keepdim=True)
    return unit.float()
