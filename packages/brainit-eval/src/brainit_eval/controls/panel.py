"""All controls and detectors that a lab's pictures allow, in one list of readings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import ArrayLike

from brainit_eval.controls.against import beats, recovery
from brainit_eval.controls.audit import audit_overlap, find_leaks, picture_hashes
from brainit_eval.controls.clusters import within_clusters
from brainit_eval.controls.neighbours import nearest
from brainit_eval.controls.predictors import grey_images, mean_images, nearest_images
from brainit_eval.controls.shuffles import derangement
from brainit_eval.detectors import (
    branch_agreement,
    far_from_training,
    inversion_artefacts,
    over_smoothness,
    weak_categories,
)
from brainit_eval.metrics.identification import TwoWay, two_way
from brainit_eval.metrics.pixels import pixcorr, ssim
from brainit_eval.pictures.stream import (
    FeatureFunction,
    PictureArray,
    Resized,
    Taken,
    extract,
    paired_batches,
    thumbnails,
)
from brainit_eval.statistics.readings import Reading

Columns = dict[str, np.ndarray]


class _Draws(TypedDict):
    n_bootstrap: int
    seed: int


@dataclass(frozen=True, eq=False)
class ControlInputs:
    """What one subject's controls are made from; all but the first three may be missing.

    Attributes:
        images: Reconstructions, ``[n, 3, H, W]`` at the size at which they were made.
        truth: The images seen, ``[n, 3, H', W']``, same order.
        image_ids: ``[n]`` ids.
        coarse: Low-level branch, ``[n, 3, ...]``, same order.
        recovered: What the generator makes of true features, ``[n, 3, ...]``, same order.
        categories: Category of each image, ``[n]``.
        train: Training images, ``[m, 3, H', W']``.
        train_ids: ``[m]`` ids, of one numbering with `image_ids`.
    """

    images: PictureArray
    truth: PictureArray
    image_ids: ArrayLike
    coarse: PictureArray | None = None
    recovered: PictureArray | None = None
    categories: ArrayLike | None = None
    train: PictureArray | None = None
    train_ids: ArrayLike | None = None


class ControlPanel:
    """Runs controls and detectors with one feature function, seed and number of resamples.

    PixCorr, SSIM and two-way identification are taken at the size of the images seen, to hold the
    method against its controls; they are not the scores of a published protocol.
    """

    def __init__(
        self,
        inputs: ControlInputs,
        features: FeatureFunction = thumbnails,
        *,
        n_bootstrap: int = 2000,
        seed: int = 0,
    ) -> None:
        """Score the reconstructions; `readings` goes on from there.

        Args:
            inputs: The pictures.
            features: What identification and nearness are taken of; its last features count.
            n_bootstrap: Resamples behind each interval.
            seed: Seed of resamples, permutations and the derangement.

        Raises:
            ValueError: If pictures are not as stated or counts differ.
        """
        for name in ("truth", "image_ids", "coarse", "recovered", "categories"):
            _check_count(getattr(inputs, name), inputs.images.shape[0], name)
        self.inputs, self.features = inputs, features
        self.draws: _Draws = {"n_bootstrap": n_bootstrap, "seed": seed}
        self.truth_features = extract(inputs.truth, features, "truth")
        self.image_features = extract(inputs.images, features)
        self.identification = two_way(self.image_features, self.truth_features)
        self.scores = self._scores(inputs.images, self.identification)

    def readings(self) -> list[Reading]:
        """Every reading that the inputs allow."""
        parts = [self._detectors(), self._floors(), self._recovery(), self._kinds(), self._train()]
        return [reading for part in parts for reading in part]

    def _detectors(self) -> Iterator[Reading]:
        images, truth = self.inputs.images, self.inputs.truth
        height, width = (min(a, b) for a, b in zip(images.shape[2:], truth.shape[2:], strict=True))
        small = [Resized(pictures, height, width) for pictures in (images, truth)]
        yield over_smoothness(small[0], small[1], **self.draws)
        at_own_size = Resized(truth, *images.shape[2:])
        yield inversion_artefacts(images, at_own_size, **self.draws)
        if self.inputs.coarse is not None:
            yield branch_agreement(self.inputs.coarse, images, **self.draws)

    def _floors(self) -> Iterator[Reading]:
        images, truth = self.inputs.images, self.inputs.truth
        n = truth.shape[0]
        order = derangement(n, torch.Generator().manual_seed(self.draws["seed"])).numpy()
        shuffled = two_way(self.image_features[order], self.truth_features)
        yield from self._against(self._scores(Taken(images, order), shuffled), "shuffled_brains")
        yield from self._against(self._scores(grey_images(truth)), "grey_image")
        source, name = (
            (truth, "mean_image_seen")
            if self.inputs.train is None
            else (self._train_at_size(), "mean_training_image")
        )
        yield from self._against(self._scores(mean_images(source, n)), name)

    def _recovery(self) -> Iterator[Reading]:
        pictures = self.inputs.recovered
        if pictures is not None:
            found = two_way(extract(pictures, self.features, "recovered"), self.truth_features)
            for metric, values in self._scores(pictures, found).items():
                yield recovery(self.scores[metric], values, metric, **self.draws)

    def _kinds(self) -> Iterator[Reading]:
        categories = self.inputs.categories
        if categories is not None:
            yield within_clusters(self.identification.success, categories, **self.draws)
            yield weak_categories(self.scores["two_way"], categories, **self.draws)

    def _train(self) -> Iterator[Reading]:
        inputs = self.inputs
        if inputs.train is None or inputs.train_ids is None:
            return
        _check_count(inputs.train_ids, inputs.train.shape[0], "train_ids")
        train_features = extract(inputs.train, self.features, "train")
        seen = nearest(self.truth_features, train_features)
        leaks = find_leaks(
            inputs.image_ids,
            inputs.train_ids,
            test_hashes=picture_hashes(inputs.truth),
            train_hashes=picture_hashes(inputs.train),
            neighbours=seen,
        )
        yield audit_overlap(leaks, len(seen.index), seen)
        looked_up = nearest(self.image_features, train_features)
        pictures = nearest_images(inputs.train, looked_up)
        found = two_way(train_features[looked_up.index], self.truth_features)
        yield from self._against(self._scores(pictures, found), "nearest_training_image")
        yield far_from_training(self.scores["two_way"], seen.distance, **self.draws)

    def _scores(self, images: PictureArray, identification: TwoWay | None = None) -> Columns:
        """Scores per image; two-way identification only where it was given."""
        truth = self.inputs.truth
        pairs = paired_batches(Resized(images, *truth.shape[2:]), truth)
        columns = zip(*((pixcorr(a, b), ssim(a, b)) for a, b in pairs), strict=True)
        names = ("pixcorr", "ssim")
        scores = {n: torch.cat(c).cpu().numpy() for n, c in zip(names, columns, strict=True)}
        return scores if identification is None else {**scores, "two_way": identification.per_image}

    def _against(self, control: Columns, name: str) -> Iterator[Reading]:
        for metric, values in control.items():
            yield beats(self.scores[metric], values, metric, name, **self.draws)

    def _train_at_size(self) -> PictureArray:
        assert self.inputs.train is not None
        return Resized(self.inputs.train, *self.inputs.truth.shape[2:])


def _check_count(values: PictureArray | ArrayLike | None, n: int, name: str) -> None:
    count = n if values is None else np.shape(values)[0]
    if count != n:
        raise ValueError(f"{name}: expected {n}, one per image, got {count}")
