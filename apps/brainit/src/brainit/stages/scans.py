"""The scans that a run reconstructs, and the batches that they are reconstructed in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import lcm

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainit.profile import Profile
from brainit.run_folder import RunError, RunFolder
from brainit_clusters.data.dataset import BrainDataset


@dataclass(frozen=True)
class Scans:
    """One subject's responses to reconstruct from.

    Attributes:
        image_id: NSD ids, int64 [n], ascending; several times where rows are single trials.
        activations: z-scored betas, averaged over repeats or not, float32 [n, N_s].
        images: What was seen, uint8 [n, H, W, 3].
        trial: Number of each row's trial, int32 [n]; None where rows are averages.
    """

    image_id: NDArray[np.int64]
    activations: Tensor
    images: NDArray[np.uint8]
    trial: NDArray[np.int32] | None

    def labels(self, part: slice, sample: int | None = None) -> list[str]:
        """Names of some rows, for files."""
        names = [f"{image:06d}" for image in self.image_id[part]]
        if self.trial is not None:
            names = [
                f"{name}_trial{t:05d}" for name, t in zip(names, self.trial[part], strict=True)
            ]
        return names if sample is None else [f"{name}_sample{sample}" for name in names]


def load(run: RunFolder) -> dict[str, Scans]:
    """Scans of the subjects and the split that the profile evaluates, by subject."""
    settings = run.profile.evaluation
    stage = "trials" if settings.trials else "prepare"
    scans = {}
    with BrainDataset.open(run.output(stage, "dataset")) as dataset:
        for number in settings.subjects:
            name = f"subj{number:02d}"
            if name not in dataset.subjects:
                raise RunError(
                    f"evaluation.subjects: {name} is not in the dataset, "
                    f"which has {', '.join(dataset.subjects)}"
                )
            subject = dataset.subject(name)
            rows = subject.rows(settings.split)
            rows = rows[np.argsort(subject.image_id[rows], kind="stable")]
            ids = np.unique(subject.image_id[rows])[: settings.images_per_subject or None]
            rows = rows[np.isin(subject.image_id[rows], ids)]
            scans[name] = Scans(
                subject.image_id[rows],
                torch.from_numpy(subject.betas[rows]),
                dataset.images(subject.image_id[rows]),
                None if subject.trial is None else subject.trial[rows],
            )
    return scans


def batches(run: RunFolder, scans: dict[str, Scans], size: int) -> Iterator[tuple[str, slice]]:
    """Subject and rows of the batches in this process's share.

    What a batch holds depends on the scans alone, never on the number of shares, because rounding
    may depend on a batch's other rows. A share takes whole batches of every stage at once, so it
    finds its own coarse images when it comes to the final ones.
    """
    together, before = _chunk(run.profile), 0
    for name, own in scans.items():
        n = len(own.image_id)
        for start in range(0, n, size):
            if run.share.takes(before + start // together):
                yield name, slice(start, min(start + size, n))
        before += -(-n // together)


def _chunk(profile: Profile) -> int:
    return lcm(profile.coarse.batch_size, profile.image.batch_size)
