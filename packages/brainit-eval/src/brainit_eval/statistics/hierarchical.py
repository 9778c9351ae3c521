"""Hierarchical bootstrap: subjects, the images they saw, the samples a generator drew of each.

Which levels are resampled decides what an interval speaks of: with images alone, as in
`brainit_eval.statistics.bootstrap`, of other test images for these subjects; with subjects, of
other people, for whom four are few: S subjects drawn with replacement have (S - 1) / S of their
variance, and intervals are then too narrow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from brainit_eval.records.numbers import real
from brainit_eval.statistics.bootstrap import draw_weights

LEVELS = ("subjects", "images", "samples")


def hierarchical_mean(
    values: Mapping[str, ArrayLike],
    image_ids: Mapping[str, ArrayLike],
    *,
    levels: Sequence[str] = LEVELS,
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> np.ndarray:
    """Mean over subjects of a per-image score, in every resample.

    Args:
        values: Per subject ``[samples, n]``: scores of each generator sample of each image.
        image_ids: Per subject ``[n]`` ids; images that subjects share are drawn jointly.
        levels: What is resampled, of `LEVELS`; the others stay as they are. Samples are drawn for
            each drawn image on its own.
        n_bootstrap: Number of resamples, B.
        seed: Seed; the same for two methods makes their resamples paired.

    Returns:
        ``[B]`` float64, for `percentile_interval`.

    Raises:
        ValueError: If shapes, subjects or levels are not as stated, or a value is not finite.
    """
    tables = {name: real(table, name) for name, table in values.items()}
    for name, table in tables.items():
        if table.ndim != 2 or not table.size:
            raise ValueError(f"{name}: expected [samples, n] values, got {list(table.shape)}")
    draws = _draws({k: v.shape for k, v in tables.items()}, image_ids, levels, n_bootstrap, seed)
    rows = {
        name: np.einsum("bsn,sn->b", counts, tables[name]) / counts.sum((1, 2))
        for name, counts in draws
    }
    return _over_subjects(rows, levels, n_bootstrap, seed)


def hierarchical_two_way(
    success: Mapping[str, ArrayLike],
    image_ids: Mapping[str, ArrayLike],
    *,
    levels: Sequence[str] = LEVELS,
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> np.ndarray:
    """Two-way identification in every resample; drawn images are the distractors, too.

    An image is no distractor of itself, however often it is drawn; see `bootstrap_two_way`.

    Args:
        success: Per subject ``[samples, n, n]`` bool: `TwoWay.success` of each generator sample.
        image_ids: As for `hierarchical_mean`, as are the other arguments.
        levels: What is resampled.
        n_bootstrap: Number of resamples, B.
        seed: Seed.

    Returns:
        ``[B]`` float64; resamples in which a subject has a single image are NaN.

    Raises:
        ValueError: As `hierarchical_mean`.
    """
    tables = {name: real(table, name) for name, table in success.items()}
    for name, table in tables.items():
        if table.ndim != 3 or not table.size or table.shape[1] != table.shape[2]:
            raise ValueError(f"{name}: expected [samples, n, n] values, got {list(table.shape)}")
    shapes = {name: table.shape[:2] for name, table in tables.items()}
    rows = {}
    for name, counts in _draws(shapes, image_ids, levels, n_bootstrap, seed):
        weights = counts.sum(1) / len(tables[name])
        wins = sum(
            ((weights @ matrix) * counts[:, sample]).sum(1)
            for sample, matrix in enumerate(tables[name])
        )
        pairs = (weights * (weights.sum(1, keepdims=True) - weights)).sum(1) * len(tables[name])
        rows[name] = np.where(pairs > 0, wins / np.maximum(pairs, 1), np.nan)
    return _over_subjects(rows, levels, n_bootstrap, seed)


def _draws(
    shapes: Mapping[str, tuple[int, ...]],
    image_ids: Mapping[str, ArrayLike],
    levels: Sequence[str],
    n_bootstrap: int,
    seed: int,
) -> Iterator[tuple[str, np.ndarray]]:
    """Subject by subject, how often each sample of each image occurs: ``[B, samples, n]``."""
    if not set(levels) <= set(LEVELS):
        raise ValueError(f"levels: expected some of {', '.join(LEVELS)}, got {', '.join(levels)}")
    if set(shapes) != set(image_ids):
        raise ValueError(f"image_ids: expected subjects {', '.join(shapes)}")
    ids = {name: np.asarray(image_ids[name]) for name in shapes}
    for name, (_, n) in shapes.items():
        if ids[name].shape != (n,):
            raise ValueError(f"image_ids of {name}: expected {n}, got {list(ids[name].shape)}")
    images = draw_weights(ids, n_bootstrap, seed)
    for place, (name, (samples, n)) in enumerate(shapes.items()):
        weights = images[name] if "images" in levels else np.ones((n_bootstrap, n))
        if "samples" in levels:
            generator = np.random.default_rng([seed, 1, place])
            each = np.full(samples, 1 / samples)
            counts = generator.multinomial(weights.astype(np.int64) * samples, each)
            yield name, counts.transpose(0, 2, 1).astype(np.float64)
        else:
            yield name, np.broadcast_to(weights[:, None], (n_bootstrap, samples, n))


def _over_subjects(
    rows: Mapping[str, np.ndarray], levels: Sequence[str], n_bootstrap: int, seed: int
) -> np.ndarray:
    n = len(rows)
    values = np.stack(list(rows.values()), axis=1)
    if "subjects" in levels:
        generator = np.random.default_rng([seed, 0])
        values = values * generator.multinomial(n, np.full(n, 1 / n), n_bootstrap)
    result: np.ndarray = values.sum(1) / n
    return result
