"""Metrics that take pictures batch by batch, with torchmetrics' three verbs.

``update`` takes a batch, ``compute`` gives the score of all batches so far, ``reset`` begins anew.
However the pictures are split into batches, the numbers are those of the functions. Nothing of
torchmetrics is needed; the verbs are the same, so that these stand beside its metrics in a loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from brainit_eval.metrics.distance import correlation_distance
from brainit_eval.metrics.identification import identify
from brainit_eval.metrics.pixels import pixel_scores
from brainit_eval.network_features import network_features
from brainit_eval.networks import WeightStore, load_network
from brainit_eval.pictures.checks import check_pairs
from brainit_eval.pictures.stream import FeatureFunction
from brainit_eval.protocol import PIXEL_SCORES, Protocol

Prepare = Callable[[Tensor], Tensor]
"""Pictures ``[n, 3, H, W]`` in [0, 1] to pictures of another size."""


class StreamingMetric(ABC):
    """What all of them do. A score is the mean over images.

    Attributes:
        higher_is_better: Direction.
    """

    higher_is_better = True

    def __init__(self) -> None:
        """Begin without pictures."""
        self._kept: list[tuple[Tensor, ...]] = []

    @torch.no_grad()
    def update(self, images: Tensor, truth: Tensor) -> None:
        """Take a batch.

        Args:
            images: Reconstructions, ``[n, 3, H, W]`` in [0, 1], one or more.
            truth: Images seen, same shape, same order.

        Raises:
            TypeError: If one is no floating-point tensor.
            ValueError: If shapes differ, or pixels are NaN or outside [0, 1].
        """
        kept = self._look(*check_pairs(images, truth, fewest=1))
        self._kept.append(tuple(values.cpu() for values in kept))

    def per_image(self) -> Tensor:
        """Score of each image, ``[n]`` float64, in the order in which they came.

        Raises:
            ValueError: If no pictures came yet.
        """
        if not self._kept:
            raise ValueError(f"{type(self).__name__}: expected pictures by update, got none yet")
        return self._scores(*(torch.cat(column) for column in zip(*self._kept, strict=True)))

    def compute(self) -> float:
        """Score of all pictures since the beginning or the last reset; raises as `per_image`."""
        return float(self.per_image().mean())

    def reset(self) -> None:
        """Forget all pictures."""
        self._kept = []

    @abstractmethod
    def _look(self, images: Tensor, truth: Tensor) -> tuple[Tensor, ...]:
        """What to keep of a batch, ``[n, ...]`` each: scores, or what they need of all images."""

    def _scores(self, *kept: Tensor) -> Tensor:
        """From what was kept of all images to one score each, ``[n]``."""
        return kept[0]


class PixelMetric(StreamingMetric):
    """`pixcorr`, `ssim` or `ssim_columns`; 8 bytes an image are kept."""

    def __init__(
        self,
        score: Literal["pixcorr", "ssim", "ssim_columns"],
        prepare: Prepare = lambda images: images,
    ) -> None:
        """Begin.

        Args:
            score: Which.
            prepare: What is done to both pictures before, such as a resize to 425 px.
        """
        super().__init__()
        self.score, self.prepare = score, prepare

    def _look(self, images: Tensor, truth: Tensor) -> tuple[Tensor, ...]:
        return (pixel_scores(self.score, self.prepare(images), self.prepare(truth)),)


class PerceptualDistance(StreamingMetric):
    """LPIPS, DreamSim or another distance of two pictures; 8 bytes an image are kept."""

    higher_is_better = False

    def __init__(
        self,
        distance: Callable[[Tensor, Tensor], Tensor],
        prepare: Prepare = lambda images: images,
    ) -> None:
        """Begin.

        Args:
            distance: Two batches of pictures to ``[n]`` distances.
            prepare: As for `PixelMetric`.
        """
        super().__init__()
        self.distance, self.prepare = distance, prepare

    def _look(self, images: Tensor, truth: Tensor) -> tuple[Tensor, ...]:
        return (self.distance(self.prepare(images), self.prepare(truth)).double(),)


class CorrelationDistance(StreamingMetric):
    """`correlation_distance` of features; 8 bytes an image are kept."""

    higher_is_better = False

    def __init__(self, features: FeatureFunction) -> None:
        """Begin.

        Args:
            features: From pictures to features by name, of which the last count.
        """
        super().__init__()
        self.features = features

    def _look(self, images: Tensor, truth: Tensor) -> tuple[Tensor, ...]:
        return (correlation_distance(*(_last(self.features, each) for each in (images, truth))),)


class TwoWayIdentification(StreamingMetric):
    """`two_way` of features, among all images that came: their features are kept until `reset`.

    For AlexNet's second layer that is 1.5 MB a pair; `Benchmark` keeps them on disk instead.
    """

    def __init__(
        self,
        features: FeatureFunction,
        direction: Literal["reconstruction_fixed", "image_fixed"] = "reconstruction_fixed",
    ) -> None:
        """Begin.

        Args:
            features: As for `CorrelationDistance`.
            direction: What is fixed: with reconstructions fixed, as in published scores, the
                distractors are other true images.
        """
        super().__init__()
        self.features, self.direction = features, direction

    def _look(self, images: Tensor, truth: Tensor) -> tuple[Tensor, ...]:
        return _last(self.features, images), _last(self.features, truth)

    def _scores(self, *kept: Tensor) -> Tensor:
        return torch.from_numpy(getattr(identify(*kept), self.direction).per_image)


def streaming(protocol: Protocol, metric: str, store: WeightStore | None) -> StreamingMetric:
    """One metric of a protocol, for pictures that come in batches.

    Args:
        protocol: The protocol.
        metric: Name of its metric.
        store: As for `network_features`.

    Raises:
        ImportError: If a network's library is not installed.
        FileNotFoundError: If its weights are not here and cannot be fetched.
        ValueError: If the protocol has no such metric.
    """
    spec, prepare = protocol.only((metric,)).metrics[metric], protocol.prepare(metric)
    if spec.score in PIXEL_SCORES:
        return PixelMetric(spec.score, prepare)  # type: ignore[arg-type]
    if spec.score == "perceptual_distance":
        return PerceptualDistance(load_network(spec.network, spec.weights, store), prepare)
    features = network_features(protocol, metric, store)
    if spec.score == "correlation_distance":
        return CorrelationDistance(features)
    return TwoWayIdentification(features, spec.direction)  # type: ignore[arg-type]


def _last(function: FeatureFunction, images: Tensor) -> Tensor:
    return list(function(images).values())[-1].flatten(1)
