"""Brain correlation: do reconstructions, seen through an encoder, predict the measured responses?

The encoder must be one that took no part in making the reconstructions; else the score is circular.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from brainit_eval.records.numbers import real
from brainit_eval.statistics.ceilings import spearman_brown


@dataclass(frozen=True)
class BrainCorrelation:
    """Correlation of patterns in one region of interest.

    Attributes:
        per_image: ``[n]`` Pearson correlation over the region's voxels.
        ceiling: Highest mean correlation that the noise of the repeats allows; NaN without
            repeats, or where repeats do not agree at all.
    """

    per_image: np.ndarray
    ceiling: float

    @property
    def value(self) -> float:
        """Mean over images."""
        return float(self.per_image.mean())

    @property
    def normalised(self) -> float:
        """Mean over images as a share of the ceiling."""
        return self.value / self.ceiling


def brain_correlation(
    predicted: ArrayLike,
    image_ids: ArrayLike,
    trials: ArrayLike,
    trial_ids: ArrayLike,
    regions: Mapping[str, ArrayLike] | None = None,
) -> dict[str, BrainCorrelation]:
    """Correlate responses that an encoder predicts from reconstructions with measured ones.

    As in MindEye2's Table 3 (arXiv 2403.11207) the correlation is across voxels, for each image,
    on the mean of its repeats. All repeats that there are count, each once.

    Args:
        predicted: ``[n, V]`` responses predicted from the reconstructions.
        image_ids: ``[n]`` the image of each row, each once.
        trials: ``[trials, V]`` measured responses, z-scored over trials per voxel.
        trial_ids: ``[trials]`` the image of each; other images are ignored.
        regions: Name to ``[V]`` bool; None takes all voxels as ``all``.

    Returns:
        Region to result. The ceiling comes from the correlation between single repeats, stepped
        up to each image's number of repeats (Spearman and Brown), as a root.

    Raises:
        ValueError: If shapes or ids do not fit, an image has no trial, a region has fewer than 2
            voxels, or a value is not finite.
    """
    rows, measured = real(predicted, "predicted"), real(trials, "trials")
    ids, shown = np.asarray(image_ids), np.asarray(trial_ids)
    _check(rows, ids, measured, shown)
    repeats = [np.flatnonzero(shown == one) for one in ids.tolist()]
    missing = [one for one, found in zip(ids.tolist(), repeats, strict=True) if not len(found)]
    if missing:
        raise ValueError(f"trials: image {missing[0]!r} has none ({len(missing)} such images)")
    means = np.stack([measured[found].mean(0) for found in repeats])
    counts = np.array([len(found) for found in repeats])
    masks = {"all": np.ones(rows.shape[1], dtype=bool)} if regions is None else regions
    result = {}
    for name, given in masks.items():
        mask = np.asarray(given)
        if mask.dtype != bool or mask.shape != rows.shape[1:] or mask.sum() < 2:
            raise ValueError(f"{name}: expected {rows.shape[1]} bools, 2 or more of them True")
        patterns = [_unit(measured[found][:, mask]) for found in repeats]
        per_image = (_unit(rows[:, mask]) * _unit(means[:, mask])).sum(1)
        result[name] = BrainCorrelation(per_image, _ceiling(patterns, counts))
    return result


def _ceiling(patterns: list[np.ndarray], counts: np.ndarray) -> float:
    """Mean over images of the root of the reliability of their averaged patterns."""
    repeated = [p for p in patterns if len(p) > 1]
    if not repeated:
        return float("nan")
    # The sum of all pairs of n unit patterns is that of their sum's square without the diagonal.
    single = float(
        np.mean([((p.sum(0) ** 2).sum() - len(p)) / (len(p) * (len(p) - 1)) for p in repeated])
    )
    return float(np.sqrt(spearman_brown(single, counts)).mean()) if single > 0 else float("nan")


def _unit(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    # A pattern of one value, as an encoder may give for a grey image, correlates with nothing.
    result: np.ndarray = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    return result


def _check(rows: np.ndarray, ids: np.ndarray, trials: np.ndarray, shown: np.ndarray) -> None:
    fits = rows.ndim == trials.ndim == 2 and rows.size and rows.shape[1] == trials.shape[1]
    if not fits or ids.shape != rows.shape[:1] or shown.shape != trials.shape[:1]:
        shapes = [list(v.shape) for v in (rows, ids, trials, shown)]
        raise ValueError(f"responses: expected [n, V], [n], [trials, V], [trials]; got {shapes}")
    if len(np.unique(ids)) != len(ids):
        raise ValueError("image_ids: expected each image once")
    if not (np.isfinite(rows).all() and np.isfinite(trials).all()):
        raise ValueError("responses: expected finite values")
