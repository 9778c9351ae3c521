"""Train the universal brain encoder on the real images of all subjects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from brainit import engine
from brainit.models import resolve
from brainit.profile import Encoder
from brainit.run_folder import RunFolder
from brainit.stages.images_io import as_float
from brainit_clusters.data.dataset import BrainDataset
from brainit_clusters.encoder.backbone import load_backbone
from brainit_clusters.encoder.loss import encoder_loss
from brainit_clusters.encoder.model import BrainEncoder, EncoderConfig
from brainit_clusters.encoder.predict import predict_responses
from brainit_clusters.encoder.score import voxel_correlation

SCORE_PERCENTILE = 75


def run(run: RunFolder, fingerprint: str) -> dict[str, Path]:
    """Write the encoder (weights and config) with one embedding per voxel."""
    profile = run.profile
    with BrainDataset.open(run.output("prepare", "dataset")) as dataset:
        encoder = build(run, dataset)
        task = EncoderTask(encoder, dataset, profile.encoder, profile.seed)
    checkpoints = run.path / "checkpoints" / f"encoder-{fingerprint[:12]}"
    engine.train(task, profile.encoder.training, checkpoints, profile.seed, run.log)
    folder = run.path / "encoder"
    encoder.save_pretrained(folder)
    return {"encoder": folder}


def build(run: RunFolder, dataset: BrainDataset) -> BrainEncoder:
    """A fresh encoder with an embedding table for every subject of the dataset."""
    config = encoder_config(run.profile.encoder)
    torch.manual_seed(run.profile.seed)
    encoder = BrainEncoder(config, load_backbone(resolve(run.profile.models.backbone)))
    generator = torch.Generator().manual_seed(run.profile.seed)
    for name in dataset.subjects:
        encoder.add_subject(name, len(dataset.subject(name).vertex), generator=generator)
    return encoder


def encoder_config(settings: Encoder) -> EncoderConfig:
    """Sizes of an encoder from a profile."""
    return EncoderConfig(
        dim=settings.dim,
        channels=settings.channels,
        taps=settings.taps,
        rank=settings.rank,
        alpha=settings.alpha,
        dropout=settings.dropout,
        mlp_ratio=settings.mlp_ratio,
    )


def load(run: RunFolder) -> BrainEncoder:
    """The trained encoder of a run."""
    backbone = load_backbone(resolve(run.profile.models.backbone))
    return BrainEncoder.from_pretrained(run.output("encoder", "encoder"), backbone=backbone).eval()


@dataclass(frozen=True)
class Batch:
    """Rows of one subject, the voxels read out, and how far each image is shifted."""

    subject: str
    rows: Tensor
    voxels: Tensor
    shifts: Tensor


class EncoderTask:
    """Images to responses, a random set of voxels of one subject a batch."""

    name = "encoder"

    def __init__(
        self, encoder: BrainEncoder, dataset: BrainDataset, settings: Encoder, seed: int
    ) -> None:
        self.module = encoder
        self.settings = settings
        self.seed = seed
        self.subjects = {name: dataset.subject(name) for name in dataset.subjects}
        self.betas = {name: torch.from_numpy(s.betas) for name, s in self.subjects.items()}
        self.images = {
            name: as_float(dataset.images(s.image_id)) for name, s in self.subjects.items()
        }

    def epoch(self, number: int) -> Sequence[Batch]:
        """All training images of all subjects once, in batches of one subject, shuffled."""
        rng = np.random.default_rng([self.seed, number])
        batches = []
        for name, subject in self.subjects.items():
            rows = rng.permutation(subject.rows("train"))
            for chunk in np.array_split(
                rows, max(1, round(len(rows) / self.settings.training.batch_size))
            ):
                voxels = rng.permutation(len(subject.vertex))[: self.settings.voxels_per_image]
                reach = self.settings.max_shift
                shifts = rng.integers(-reach, reach + 1, (len(chunk), 2))
                batches.append(
                    Batch(name, *(torch.from_numpy(a) for a in (chunk, np.sort(voxels), shifts)))
                )
        return [batches[i] for i in rng.permutation(len(batches))]

    def loss(self, batch: Batch) -> Tensor:
        """MSE less a tenth of the cosine similarity along voxels."""
        images = shifted(self.images[batch.subject][batch.rows], batch.shifts)
        features = self.module.features(images)
        predicted = self.module.readout(features, batch.subject, batch.voxels)
        return encoder_loss(
            predicted.float(), self.betas[batch.subject][batch.rows][:, batch.voxels]
        )

    def validate(self) -> dict[str, float]:
        """75th percentile and median of the voxels' validation correlation, mean over subjects."""
        upper, median = [], []
        for name, subject in self.subjects.items():
            rows = subject.rows("val")
            predicted = predict_responses(self.module, self.images[name][rows], name)
            correlation = voxel_correlation(predicted, subject.betas[rows])
            upper.append(np.nanpercentile(correlation, SCORE_PERCENTILE))
            median.append(np.nanmedian(correlation))
        return {"score": float(np.mean(upper)), "median_correlation": float(np.mean(median))}


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
