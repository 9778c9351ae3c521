"""What both transformers share: how they are built, and how a batch is prepared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from brainit.computing import device, pinned, sent
from brainit.profile import Decoder
from brainit.run_folder import RunFolder
from brainit.stages import encoder as encoder_stage
from brainit.stages.samples import Batch, Draw, Samples
from brainit_bit import BITConfig, BrainInteractionTransformer, draw_voxels, grid_queries
from brainit_clusters.clusters import VoxelClusters
from brainit_clusters.whitening import whitened


@dataclass(frozen=True)
class Prepared:
    """A batch with all that is read or drawn for it, on the host.

    Attributes:
        batch: Responses and images.
        multiplicity: How often each voxel is drawn, float32 [B, N_s].
        target: What the task reads of the batch's images.
        generator: For what else is random.
    """

    batch: Batch
    multiplicity: Tensor
    target: Tensor
    generator: torch.Generator


class DecodingTask:
    """What both branches' trainings share: their samples and the voxels that a batch draws.

    Args:
        model: What is trained.
        samples: Real and external samples.
        settings: The branch's part of the profile.
    """

    def __init__(
        self, model: BrainInteractionTransformer, samples: Samples, settings: Decoder
    ) -> None:
        self.module = model
        self.samples = samples
        self.settings = settings

    def epoch(self, number: int) -> Sequence[Draw]:
        """Real and external samples, shuffled."""
        settings = self.settings
        return self.samples.epoch(number, settings.training.batch_size, settings.external_per_real)

    def load(self, draw: Draw) -> Prepared:
        """Read and draw a batch, which any thread may do."""
        batch = self.samples.load(draw)
        generator = torch.Generator().manual_seed(draw.seed)
        n, n_voxels = batch.activations.shape
        n_drawn = min(self.settings.voxels_drawn, n_voxels)
        multiplicity = pinned(draw_voxels(n_voxels, n_drawn, n, generator))
        return Prepared(batch, multiplicity, pinned(self.target(batch.images)), generator)

    def target(self, images: Tensor) -> Tensor:
        """What is read of some images to decode, on the host; [B, ...]."""
        raise NotImplementedError

    def predict(
        self, batch: Batch, multiplicity: Tensor | None = None, queries: Tensor | None = None
    ) -> Tensor:
        """Features of a batch, of all voxels unless some are drawn: [B, Q, D]."""
        drawn = None if multiplicity is None else sent(multiplicity)
        features: Tensor = self.module(
            sent(batch.activations), batch.subject, drawn, queries
        ).features
        return features


def build(
    run: RunFolder, settings: Decoder, level_sizes: Sequence[int], width: int
) -> BrainInteractionTransformer:
    """A fresh transformer with an embedding for every clustered voxel.

    Args:
        run: Holds the clusters and, for the start, the encoder.
        settings: The transformer's sizes and start.
        level_sizes: Number of query tokens of each level, every level a square of places.
        width: Feature size.
    """
    clusters = VoxelClusters.load(run.output("clusters", "clusters"))
    config = bit_config(settings, clusters.n_clusters, sum(level_sizes), width)
    torch.manual_seed(run.profile.seed)
    model = BrainInteractionTransformer(config)
    generator = torch.Generator().manual_seed(run.profile.seed)
    starts = _starts(run, settings) if settings.start_length else {}
    for name in clusters.subjects:
        labels = torch.from_numpy(clusters.labels_of(name).astype(np.int64))
        model.add_subject(name, labels, embedding=starts.get(name), generator=generator)
    if settings.start_length:
        sides = [isqrt(size) for size in level_sizes]
        with torch.no_grad():
            model.query_tokens.copy_(grid_queries(sides, settings.dim, generator))
    return model


def _starts(run: RunFolder, settings: Decoder) -> dict[str, Tensor]:
    """Start from what the encoder knows of each voxel: a short training has no time to find it."""
    encoder = encoder_stage.load(run)
    embeddings = {
        name: encoder.voxel_embedding(name).detach().cpu().numpy() for name in encoder.subjects
    }
    starts = whitened(embeddings, settings.dim, settings.start_length)
    return {name: torch.from_numpy(values) for name, values in starts.items()}


def bit_config(settings: Decoder, n_clusters: int, n_tokens: int, width: int) -> BITConfig:
    """Sizes of a transformer: those of a profile, of the clusters and of the decoded features."""
    return BITConfig(
        n_clusters=n_clusters,
        dim=settings.dim,
        n_heads=settings.heads,
        n_rounds=settings.rounds,
        mlp_ratio=settings.mlp_ratio,
        n_query_tokens=n_tokens,
        output_dim=width,
    )


def load(folder: Path) -> BrainInteractionTransformer:
    """A trained transformer, ready to predict."""
    return BrainInteractionTransformer.from_pretrained(folder).eval().to(device())
