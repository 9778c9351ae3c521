"""Identification from ranks: which share of other candidates does the right one beat?

In published two-way scores the reconstruction is fixed and the distractors are other true images:
so has it the code that they come from, while several papers describe the transpose. Both
directions come from one pass here, each under its name.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import comb

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from brainit_eval.metrics.similarity import TIE, Vectors, pairs, similarities
from brainit_eval.records.numbers import rows_of

_ROWS = 2048  # further distractors that are compared at a time


@dataclass(frozen=True)
class Ranks:
    """How many distractors each item's right answer fails to beat, of how many.

    Attributes:
        ranks: ``[n]`` int64, 0 is best.
        distractors: ``[n]`` int64; an item without any has no score.
    """

    ranks: np.ndarray
    distractors: np.ndarray

    def __add__(self, other: Ranks) -> Ranks:
        """The same items against the distractors of both."""
        return Ranks(self.ranks + other.ranks, self.distractors + other.distractors)

    @property
    def per_image(self) -> np.ndarray:
        """Share of distractors beaten, ``[n]`` float64 in [0, 1]; NaN without distractors."""
        number = np.where(self.distractors > 0, self.distractors, np.nan)
        return 1.0 - self.ranks / number

    @property
    def value(self) -> float:
        """Two-way identification: mean over the items that have distractors; chance is 0.5."""
        scored = self.per_image[self.distractors > 0]
        return float(scored.mean()) if scored.size else float("nan")

    def top(self, k: int = 1, ways: int | None = None) -> float:
        """Exact expected top-k accuracy: the right answer is among the k most similar.

        Args:
            k: Size of the short list, 1 or more.
            ways: Candidates including the right one, the others drawn without replacement; None
                takes all distractors. Chance is ``k / ways``.

        Returns:
            Accuracy in [0, 1].

        Raises:
            ValueError: If ``k`` is below 1, or an item has fewer than ``ways - 1`` distractors.
        """
        fewest = int(self.distractors.min())
        if k < 1:
            raise ValueError(f"k: expected 1 or more, got {k}")
        if ways is None:
            return float(np.mean(self.ranks < k))
        if not 2 <= ways <= fewest + 1:
            raise ValueError(f"ways: expected 2 to {fewest + 1}, got {ways}")
        pairs = Counter(zip(self.ranks.tolist(), self.distractors.tolist(), strict=True))
        chances = (times * _top(rank, n, k, ways - 1) for (rank, n), times in pairs.items())
        return sum(chances) / len(self.ranks)


@dataclass(frozen=True)
class TwoWay:
    """Two-way identification of ``n`` pairs in one direction.

    Attributes:
        success: ``[n, n]`` bool; ``[i, j]`` is whether reconstruction ``j`` is closer to its own
            image than to image ``i`` (with images fixed: image ``j`` to its own reconstruction
            than to reconstruction ``i``). The diagonal is False.
        ranks: ``[n]`` int64: how many distractors each right answer fails to beat.
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

    def all(self) -> Ranks:
        """Ranks among all other candidates."""
        return Ranks(self.ranks, np.full(len(self.ranks), len(self.ranks) - 1))

    def within(self, groups: ArrayLike) -> Ranks:
        """Ranks among candidates of the same group: a category, a cluster of similar images.

        Chance is 0.5 here too, while over all candidates K balanced groups that are told apart
        give 1 - 1 / (2 K) without any knowledge within them (Shirakawa et al. 2025).

        Args:
            groups: ``[n]`` labels in the order of the pairs.

        Raises:
            ValueError: If there is not one label for each pair.
        """
        labels = np.asarray(groups)
        if labels.shape != self.ranks.shape:
            raise ValueError(f"groups: expected {len(self.ranks)} labels, got {list(labels.shape)}")
        same = labels[:, None] == labels[None, :]
        np.fill_diagonal(same, False)
        return Ranks((same & ~self.success).sum(0), same.sum(0))


@dataclass(frozen=True)
class Identification:
    """Both directions of identification.

    Attributes:
        reconstruction_fixed: Distractors are other true images, as in published scores.
        image_fixed: Distractors are other reconstructions.
    """

    reconstruction_fixed: TwoWay
    image_fixed: TwoWay


def two_way(features_pred: Tensor, features_true: Tensor) -> TwoWay:
    """Two-way identification by Pearson correlation over features; the reconstruction is fixed.

    A distractor that ties with the true image (within 1e-12) counts as a failure, and so does
    every comparison that involves NaN or a feature vector of one value, so a collapsed model
    scores 0, not 0.5. Feature columns are streamed; every comparison is that of float64.

    Args:
        features_pred: Features of the reconstructions, ``[n, ...]``; further axes are flattened.
        features_true: Features of the images seen, same shape, same order.

    Returns:
        Success matrix and ranks, on the host.

    Raises:
        TypeError: If one is no tensor of real numbers.
        ValueError: If shapes differ, ``n`` is below 2, or there are fewer than 2 features.
    """
    return identify(features_pred, features_true).reconstruction_fixed


@torch.no_grad()
def identify(
    features_pred: Tensor, features_true: Tensor, *, cosine: bool = False
) -> Identification:
    """Identification in both directions, from one pass over the features.

    Args:
        features_pred: As for `two_way`, which also says what ties and NaN count.
        features_true: Same shape, same order.
        cosine: Compare by cosine instead of Pearson correlation; a vector of zeros then has no
            similarity to anything, one of another single value has.

    Returns:
        Success matrices and ranks, on the host.

    Raises:
        ValueError: As `two_way`.
    """
    pred, true = rows_of(features_pred, "features_pred"), rows_of(features_true, "features_true")
    if pred.shape != true.shape:
        raise ValueError(
            f"features: expected one shape, got {list(pred.shape)} and {list(true.shape)}"
        )
    if pred.shape[0] < 2 or pred.shape[1] < 2:
        raise ValueError(f"features: expected 2 rows and 2 columns or more, got {list(pred.shape)}")
    rows, columns, own = pairs(true, pred, centred=not cosine)
    found = similarities(rows, columns, own, paired=True)
    return Identification(_two_way(own - found), _two_way(own - found.T))


@torch.no_grad()
def against(features_pred: Tensor, features_true: Tensor, distractors: Tensor) -> Ranks:
    """Identification of each reconstruction's own image among further images.

    With the images that a decoder was trained on this is the zero-shot sample identification of
    Shirakawa et al. (2025): a decoder that only returns training images fails it. Add the ranks
    to those of other sets to have them all as candidates:
    ``two_way(pred, true).all() + against(pred, true, training)``.

    Args:
        features_pred: As for `two_way`, which also says what ties and NaN count; one row or more.
        features_true: Same shape, same order.
        distractors: Features of the further images, ``[m, ...]``; none may be among
            ``features_true``, or it is counted as a tie.

    Returns:
        Ranks among ``m`` distractors, the reconstruction fixed.

    Raises:
        ValueError: If shapes do not fit.
    """
    pred, true = rows_of(features_pred, "features_pred"), rows_of(features_true, "features_true")
    further = rows_of(distractors, "distractors")
    if pred.shape != true.shape or pred.shape[1] != further.shape[1] or 0 in further.shape:
        shapes = [list(values.shape) for values in (pred, true, further)]
        raise ValueError(f"features: expected [n, D], [n, D] and [m, D], got {shapes}")
    _, columns, own = pairs(true, pred, centred=True)
    beaten = torch.zeros(len(own), dtype=torch.int64, device=own.device)
    for block in further.split(_ROWS):
        found = similarities(Vectors.of(block, centred=True), columns, own, paired=False)
        beaten += (own - found > TIE).sum(0)
    ranks = (len(further) - beaten).cpu().numpy()
    return Ranks(ranks, np.full(len(ranks), len(further)))


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
    values = np.asarray(ranks)
    return Ranks(values, np.full(len(values), len(values) - 1)).top(1, ways)


def _two_way(lead: Tensor) -> TwoWay:
    success = lead > TIE  # False where either is NaN
    ranks = len(success) - 1 - success.sum(0)
    return TwoWay(success.cpu().numpy(), ranks.cpu().numpy())


def _top(rank: int, distractors: int, k: int, drawn: int) -> float:
    """Chance that fewer than k of the ``rank`` better ones are among those drawn: in integers."""
    hits = sum(
        comb(rank, x) * comb(distractors - rank, drawn - x) for x in range(min(k, drawn + 1))
    )
    return hits / comb(distractors, drawn)
