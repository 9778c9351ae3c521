"""What the encoder is trained on: batches of one subject's images and random voxels of it.

Universal Brain Encoder (arXiv 2406.12179), Brain-IT (arXiv 2510.25976).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainit_clusters.data.dataset import BrainDataset, SubjectData
from brainit_clusters.encoder.loss import encoder_loss
from brainit_clusters.encoder.model import BrainEncoder
from brainit_clusters.encoder.predict import predict_responses, to_float
from brainit_clusters.encoder.score import voxel_correlation

SCORE_PERCENTILE = 75


class Batch(NamedTuple):
    """Rows of one subject, the voxels read out, and how far each image is shifted."""

    subject: str
    rows: Tensor
    voxels: Tensor
    shifts: Tensor


class LoadedBatch(NamedTuple):
    """What a batch holds: float32 images [B, 3, H, W] in [0, 1], voxels, their betas [B, V]."""

    subject: str
    images: Tensor
    voxels: Tensor
    measured: Tensor


class EncoderTask:
    """Images to responses, a random set of voxels of one subject a batch.

    Images and betas stay in the dataset's file; a batch reads its rows.

    Args:
        encoder: What is trained, in place; it knows the subjects.
        dataset: Where their images and betas come from; open as long as it is trained.
        subjects: Names; None for all of the dataset.
        batch_size: Images a batch, on average over a subject's batches.
        voxels_per_image: Voxels that a batch reads out; all where there are fewer.
        max_shift: Images are shifted by up to so many pixels, along each axis.
        seed: Decides the batches.

    Raises:
        ValueError: if a subject is unknown, its number of voxels differs from the encoder's, or
            it has no images to train on or fewer than two to validate with.
    """

    name = "encoder"

    def __init__(
        self,
        encoder: BrainEncoder,
        dataset: BrainDataset,
        subjects: Sequence[str] | None = None,
        *,
        batch_size: int = 32,
        voxels_per_image: int = 5000,
        max_shift: int = 3,
        seed: int = 0,
    ) -> None:
        self.module = encoder
        self._sizes = batch_size, voxels_per_image, max_shift
        self._seed = seed
        self._dataset = dataset
        self._subjects: dict[str, SubjectData] = {}
        for name in dataset.subjects if subjects is None else subjects:
            subject = dataset.subject(name, in_memory=False)
            n_known = len(encoder.voxel_embedding(name))
            if n_known != subject.n_voxels:
                raise ValueError(
                    f"{dataset.path}: {name} has {subject.n_voxels} voxels, the encoder {n_known}"
                )
            rows = {split: subject.rows(split) for split in ("train", "val")}
            if len(rows["train"]) < 1 or len(rows["val"]) < 2:
                raise ValueError(
                    f"{dataset.path}: {name} has {len(rows['train'])} images to train on and "
                    f"{len(rows['val'])} to validate with, expected at least 1 and 2"
                )
            self._subjects[name] = subject

    def epoch(self, number: int) -> Sequence[Batch]:
        """All training images of all subjects once, in batches of one subject, shuffled."""
        batch_size, voxels_per_image, reach = self._sizes
        rng = np.random.default_rng([self._seed, number])
        batches = []
        for name, subject in self._subjects.items():
            shuffled = rng.permutation(subject.rows("train"))
            for chunk in np.array_split(shuffled, max(1, round(len(shuffled) / batch_size))):
                voxels = rng.permutation(subject.n_voxels)[:voxels_per_image]
                shifts = rng.integers(-reach, reach + 1, (len(chunk), 2))
                arrays = (chunk, np.sort(voxels), shifts)
                batches.append(Batch(name, *map(torch.from_numpy, arrays)))
        return [batches[i] for i in rng.permutation(len(batches))]

    def load(self, batch: Batch) -> LoadedBatch:
        """Read and shift a batch's images, and read its voxels' betas; any thread may."""
        images, betas = self._read(batch.subject, batch.rows.numpy())
        measured = torch.from_numpy(betas[:, batch.voxels.numpy()]).float()
        moved = shifted(to_float(images), batch.shifts)
        return LoadedBatch(batch.subject, moved, batch.voxels, measured)

    def loss(self, batch: LoadedBatch) -> Tensor:
        """MSE less a tenth of the cosine similarity along voxels."""
        device = self.module.readout_weight.device
        features = self.module.features(batch.images.to(device))
        predicted = self.module.readout(features, batch.subject, batch.voxels.to(device))
        return encoder_loss(predicted.float(), batch.measured.to(device))

    def validate(self) -> dict[str, float]:
        """75th percentile and median of the voxels' validation correlation, mean over subjects."""
        upper, median = [], []
        for name, subject in self._subjects.items():
            images, measured = self._read(name, subject.rows("val"))
            predicted = predict_responses(self.module, images, name)
            correlation = voxel_correlation(predicted, measured)
            upper.append(np.nanpercentile(correlation, SCORE_PERCENTILE))
            median.append(np.nanmedian(correlation))
        return {"score": float(np.mean(upper)), "median_correlation": float(np.mean(median))}

    def _read(
        self, name: str, rows: NDArray[np.intp]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Images that a subject saw, and its betas as the file holds them."""
        subject = self._subjects[name]
        return self._dataset.images(subject.image_id[rows]), subject.betas[rows]


def shifted(images: Tensor, shifts: Tensor) -> Tensor:
    """Shift every image by its own (rows, columns) in pixels, repeating the border.

    Args:
        images: [B, C, H, W].
        shifts: Integers [B, 2].
    """
    height, width = images.shape[-2:]
    rows = (torch.arange(height) + shifts[:, :1]).clamp(0, height - 1)
    columns = (torch.arange(width) + shifts[:, 1:]).clamp(0, width - 1)
    batch = torch.arange(len(images))
    return images[batch[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(
        0, 3, 1, 2
    )
