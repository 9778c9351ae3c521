"""The score table of one method: five metrics, 95 % intervals, every image's own scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from brainit_eval.metrics.identification import two_way
from brainit_eval.metrics.pixels import pixcorr, ssim
from brainit_eval.metrics.registry import metric_of
from brainit_eval.pictures.checks import check_images, check_pairs
from brainit_eval.pictures.stream import FeatureFunction
from brainit_eval.statistics.bootstrap import (
    bootstrap_mean,
    bootstrap_two_way,
    draw_weights,
    percentile_interval,
)

Features = dict[str, Tensor]


@dataclass(frozen=True)
class Score:
    """A mean over subjects with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Scores:
    """Scores of one method on several subjects.

    Attributes:
        table: Metric name to its mean over subjects and interval.
        per_subject: Subject, then metric name, to its value.
        per_image: Subject, then metric name, to ``[n]`` float64; for a two-way metric the share of
            distractors beaten.
        image_ids: Subject to ``[n]`` ids, in the order of `per_image`.
    """

    table: dict[str, Score]
    per_subject: dict[str, dict[str, float]]
    per_image: dict[str, dict[str, np.ndarray]]
    image_ids: dict[str, np.ndarray]

    def as_dict(self) -> dict[str, dict[str, float | bool]]:
        """The table for ``scores.json``: value, low, high and higher_is_better per metric."""
        return {
            name: {
                "value": score.value,
                "low": score.low,
                "high": score.high,
                "higher_is_better": metric_of(name).higher_is_better,
            }
            for name, score in self.table.items()
        }

    def rows(self) -> Iterator[dict[str, str | int | float]]:
        """The per-image table as flat rows: subject, image_id, then every metric."""
        for subject, columns in self.per_image.items():
            for index, image_id in enumerate(self.image_ids[subject].tolist()):
                values = {name: float(column[index]) for name, column in columns.items()}
                yield {"subject": subject, "image_id": image_id, **values}


class Scorer:
    """Scores several methods against the same images, whose features are computed once."""

    def __init__(
        self,
        truth: Mapping[str, Tensor],
        features: Sequence[FeatureFunction],
        *,
        image_ids: Mapping[str, ArrayLike] | None = None,
        n_bootstrap: int = 2000,
        seed: int = 0,
        batch_size: int = 32,
    ) -> None:
        """Prepare the images seen.

        Args:
            truth: Per subject ``[n, 3, H, W]`` in [0, 1]. Sets that are equal between subjects
                pass through the networks once.
            features: Networks, each giving named features; name ``x`` becomes metric ``two_way_x``.
            image_ids: Per subject ``[n]`` ids. Without them, subjects with equal images are taken
                to share them and the others not; ids then count from 0.
            n_bootstrap: Resamples behind each interval.
            seed: Seed of the resamples: the same for every method, so intervals are paired.
            batch_size: Images per pass through a network.

        Raises:
            TypeError: If images are no floating-point tensors.
            ValueError: If images or ids are not as stated.
        """
        if not truth:
            raise ValueError("truth: expected one subject or more, got none")
        self.truth = {
            name: check_images(value, f"truth of {name}") for name, value in truth.items()
        }
        self.functions = tuple(features)
        self.batch_size = batch_size
        self.image_ids = _ids(self.truth, image_ids)
        self.weights = draw_weights(
            _pools(self.truth, self.image_ids, image_ids), n_bootstrap, seed
        )
        self.truth_features = self.features(self.truth)

    def features(self, images: Mapping[str, Tensor]) -> dict[str, Features]:
        """Features of all functions per subject; equal sets of images are computed once."""
        done: list[tuple[Tensor, Features]] = []
        result: dict[str, Features] = {}
        for subject, pictures in images.items():
            known = [values for other, values in done if _same(other, pictures)]
            result[subject] = known[0] if known else self._extract(pictures)
            done.append((pictures, result[subject]))
        return result

    def score(
        self,
        images: Mapping[str, Tensor],
        features: Mapping[str, Features] | None = None,
        pairing: Mapping[str, Tensor] | None = None,
    ) -> Scores:
        """Score one method's reconstructions.

        Args:
            images: Per subject, in the order and shape of the truth.
            features: Their `features`, if the caller has them already.
            pairing: Per subject a permutation from `shuffled`: reconstruction ``pairing[i]`` is
                held against image ``i``. None pairs each with its own.

        Returns:
            Table, per-subject and per-image scores.

        Raises:
            TypeError: If images are no floating-point tensors.
            ValueError: If subjects, shapes or values are not as stated.
        """
        self._check(images)
        features = self.features(images) if features is None else features
        draws: dict[str, list[np.ndarray]] = {}
        per_image: dict[str, dict[str, np.ndarray]] = {}
        for subject in self.truth:
            order = None if pairing is None else pairing[subject]
            per_image[subject] = {}
            for name, values, samples in self._subject(
                subject, _take(images[subject], order), _take_all(features[subject], order)
            ):
                per_image[subject][name] = values
                draws.setdefault(name, []).append(samples)
        per_subject = {
            subject: {name: float(values.mean()) for name, values in columns.items()}
            for subject, columns in per_image.items()
        }
        table = {
            name: Score(
                float(np.mean([values[name] for values in per_subject.values()])),
                *percentile_interval(samples),
            )
            for name, samples in draws.items()
        }
        return Scores(table, per_subject, per_image, self.image_ids)

    def _subject(
        self, subject: str, images: Tensor, features: Features
    ) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Yield name, per-image values ``[n]`` and bootstrap values ``[B]`` of every metric."""
        truth, weights = self.truth[subject], self.weights[subject]
        for name, function in (("pixcorr", pixcorr), ("ssim", ssim)):
            values = function(images, truth).double().cpu().numpy()
            yield name, values, bootstrap_mean(values, weights)
        for name, values_true in self.truth_features[subject].items():
            result = two_way(features[name], values_true)
            yield f"two_way_{name}", result.per_image, bootstrap_two_way(result.success, weights)

    @torch.inference_mode()
    def _extract(self, images: Tensor) -> Features:
        columns: dict[str, list[Tensor]] = {}
        for function in self.functions:
            for batch in images.split(self.batch_size):
                for name, values in function(batch).items():
                    columns.setdefault(name, []).append(values.flatten(1).float().cpu())
        return {name: torch.cat(parts) for name, parts in columns.items()}

    def _check(self, images: Mapping[str, Tensor]) -> None:
        if set(images) != set(self.truth):
            raise ValueError(
                f"images: expected subjects {', '.join(self.truth)}; got {', '.join(images)}"
            )
        for subject, pictures in images.items():
            check_pairs(pictures, self.truth[subject], f"images of {subject}")


def score_images(
    images: Mapping[str, Tensor],
    truth: Mapping[str, Tensor],
    features: Sequence[FeatureFunction],
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> Scores:
    """Score one method once; `Scorer` scores several against the same images.

    Args:
        images: Reconstructions per subject, ``[n, 3, H, W]`` in [0, 1].
        truth: Images seen, same subjects and shapes.
        features: As for `Scorer`.
        n_bootstrap: Resamples behind each interval.
        seed: Seed of the resamples.
    """
    return Scorer(truth, features, n_bootstrap=n_bootstrap, seed=seed).score(images)


def named(name: str, function: Callable[[Tensor], Tensor]) -> FeatureFunction:
    """Give a plain embedder ``images -> [n, D]`` the name of its metric (``clip``, say)."""
    return lambda images: {name: function(images)}


def _ids(
    truth: Mapping[str, Tensor], image_ids: Mapping[str, ArrayLike] | None
) -> dict[str, np.ndarray]:
    if image_ids is None:
        return {subject: np.arange(len(values)) for subject, values in truth.items()}
    if set(image_ids) != set(truth):
        raise ValueError(
            f"image_ids: expected subjects {', '.join(truth)}; got {', '.join(image_ids)}"
        )
    ids = {subject: np.asarray(image_ids[subject]) for subject in truth}
    for subject, values in ids.items():
        if values.shape != (len(truth[subject]),):
            raise ValueError(
                f"image_ids of {subject}: expected {len(truth[subject])}, got {list(values.shape)}"
            )
    return ids


def _pools(
    truth: Mapping[str, Tensor],
    ids: dict[str, np.ndarray],
    given: Mapping[str, ArrayLike] | None,
) -> dict[str, np.ndarray]:
    """Ids for the bootstrap: without given ones, unequal sets of images must not look shared."""
    first = next(iter(truth.values()))
    if given is not None or all(_same(first, values) for values in truth.values()):
        return ids
    starts = np.cumsum([0, *(len(values) for values in ids.values())])
    return {
        name: values + start for (name, values), start in zip(ids.items(), starts, strict=False)
    }


def _same(a: Tensor, b: Tensor) -> bool:
    return a is b or (a.shape == b.shape and a.dtype == b.dtype and bool(torch.equal(a, b)))


def _take(images: Tensor, order: Tensor | None) -> Tensor:
    return images if order is None else images[order]


def _take_all(features: Features, order: Tensor | None) -> Features:
    return {name: _take(values, order) for name, values in features.items()}
