"""The test images that a run reconstructs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainit.run_folder import RunError, RunFolder
from brainit_clusters.data.dataset import BrainDataset


@dataclass(frozen=True)
class TestTrials:
    """One subject's test responses.

    Attributes:
        image_id: NSD ids, int64 [n].
        activations: z-scored betas averaged over repeats, float32 [n, N_s].
        images: What was seen, uint8 [n, H, W, 3].
    """

    __test__ = False  # not a test class, whatever its name says to a collector

    image_id: NDArray[np.int64]
    activations: Tensor
    images: NDArray[np.uint8]


def load(run: RunFolder) -> dict[str, TestTrials]:
    """Test trials of the subjects that the profile evaluates, the same images for everyone."""
    settings = run.profile.evaluation
    trials = {}
    with BrainDataset.open(run.output("prepare", "dataset")) as dataset:
        for number in settings.subjects:
            name = f"subj{number:02d}"
            if name not in dataset.subjects:
                raise RunError(
                    f"evaluation.subjects: {name} is not in the dataset, "
                    f"which has {', '.join(dataset.subjects)}"
                )
            subject = dataset.subject(name)
            rows = subject.rows("test")[: settings.images_per_subject or None]
            ids = subject.image_id[rows]
            trials[name] = TestTrials(
                ids, torch.from_numpy(subject.betas[rows]), dataset.images(ids)
            )
    return trials
