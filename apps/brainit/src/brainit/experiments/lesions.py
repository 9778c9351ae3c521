"""What decoded CLIP tokens lose when voxels are left out: a score per image without any picture.

A voxel that is left out is one that was not drawn: the transformer knows subsets from training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainit.computing import device
from brainit.experiments.image_scores import SEED, Floats, ImageScores
from brainit.stages.scans import Scans
from brainit.stages.semantic import SemanticDecoder
from brainit_clusters.data.record import SubjectData
from brainit_eval.metrics.identification import two_way

Voxels = NDArray[np.intp]
ATLASES = ("prf-visualrois", "floc-faces", "floc-bodies", "floc-places")
RANDOM_DRAWS = 3
BATCH = 64


class TokenScorer:
    """Two-way identification by decoded tokens, of one subject's test images.

    Args:
        decoder: A trained semantic branch.
        subject: Name of the subject.
        scans: Its responses, averaged over repeats.
        truth: CLIP tokens of what it saw, [n, T, W].
    """

    def __init__(self, decoder: SemanticDecoder, subject: str, scans: Scans, truth: Tensor) -> None:
        self.decoder, self.subject, self.scans = decoder, subject, scans
        self.mean = decoder.mean.cpu()
        self.truth = (truth - self.mean).flatten(1)

    @torch.inference_mode()
    def without(self, lost: Voxels) -> Floats:
        """Share of distractors that each image's tokens beat, [n], without some voxels."""
        kept = torch.ones(self.scans.activations.shape[1], device=device())
        kept[torch.from_numpy(lost.astype(np.int64))] = 0
        parts = [
            self.decoder(x.to(device()), self.subject, kept.expand_as(x)).cpu()
            for x in self.scans.activations.split(BATCH)
        ]
        result: Floats = two_way((torch.cat(parts) - self.mean).flatten(1), self.truth).per_image
        return result


def lesioned(
    scorers: Mapping[str, TokenScorer], lost: Mapping[str, Iterable[Voxels]]
) -> ImageScores:
    """Scores of all subjects without some voxels each; several choices of them are repetitions."""
    return ImageScores(
        {n: np.stack([scorer.without(v) for v in lost[n]]) for n, scorer in scorers.items()},
        {name: scorer.scans.image_id for name, scorer in scorers.items()},
    )


def areas_of(subject: SubjectData) -> dict[str, Voxels]:
    """Voxels of each labelled area; ventral and dorsal halves of V1 to V3 are one."""
    found: dict[str, list[Voxels]] = {}
    for atlas in ATLASES:
        for label, name in subject.roi_labels.get(atlas, {}).items():
            if label == 0:
                continue
            voxels = np.flatnonzero(subject.roi[atlas] == label)
            found.setdefault(name.rstrip("vd"), []).append(voxels)
    areas = {name: np.unique(np.concatenate(parts)) for name, parts in found.items()}
    return {name: voxels for name, voxels in areas.items() if len(voxels)}


def as_many(n_voxels: int, voxels: Voxels) -> list[Voxels]:
    """Random draws of as many voxels: what a lesion of this size costs anyway."""
    rng = np.random.default_rng([SEED, len(voxels)])
    return [rng.permutation(n_voxels)[: len(voxels)] for _ in range(RANDOM_DRAWS)]


def loss_by_kind(
    intact: ImageScores, without: ImageScores, kinds: Mapping[int, frozenset[str]]
) -> dict[str, float]:
    """Fall of the score, mean over the images of all subjects that show a kind of object."""
    falls: dict[str, list[float]] = {}
    for name, row in intact.of_images().items():
        fall = row - without.of_images()[name]
        for image, value in zip(intact.ids[name].tolist(), fall.tolist(), strict=True):
            for kind in kinds[image]:
                falls.setdefault(kind, []).append(value)
    return {kind: float(np.mean(falls[kind])) for kind in sorted(falls)}
