"""What both transformers share: how they are built, and how a batch is prepared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from brainit.adaptation import load_embeddings, save_embeddings
from brainit.computing import device, pinned, sent
from brainit.profile import Decoder
from brainit.run_folder import RunFolder
from brainit.stages import encoder as encoder_stage
from brainit.stages.samples import Batch, Draw, Samples
from brainit_bit import (
    BITConfig,
    BrainInteractionTransformer,
    draw_voxels,
    freeze_for_adaptation,
    grid_queries,
)
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
        module: What is trained.
        samples: Real and external samples.
        settings: The branch's part of the profile.
    """

    def __init__(self, module: nn.Module, samples: Samples, settings: Decoder) -> None:
        self.module = module
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
    run: RunFolder, stage: str, settings: Decoder, level_sizes: Sequence[int], width: int
) -> BrainInteractionTransformer:
    """A transformer to train: a fresh one with an embedding for every clustered voxel.

    In a run that adapts a base: the base's one, in which the new subject's voxels start as copies
    of those that are most like them, and nothing else is trained.

    Args:
        run: Holds the clusters and, for the start, the encoder.
        stage: Whose transformer it is, "low_level" or "semantic".
        settings: The transformer's sizes and start.
        level_sizes: Number of query tokens of each level, every level a square of places.
        width: Feature size.
    """
    path = run.output("clusters", "clusters")
    clusters = VoxelClusters.load(path)
    if run.base is not None:
        return _adapted(run.base, stage, clusters, load_file(path)["nearest"])
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


def _adapted(
    base: RunFolder, stage: str, new: VoxelClusters, nearest: Tensor
) -> BrainInteractionTransformer:
    model = load(base, stage)
    known = VoxelClusters.load(base.output("clusters", "clusters"))
    embeddings = torch.cat([model.voxels(name).by_voxel() for name in known.subjects])
    (subject,) = new.subjects
    start = embeddings[nearest.to(embeddings.device)]
    model.add_subject(subject, new.labels_of(subject).astype(np.int64), start)
    freeze_for_adaptation(model, subject)
    return model


def save(run: RunFolder, folder: Path, model: BrainInteractionTransformer) -> None:
    """Write a trained transformer, or what is the new subject's own in an adapted one."""
    if run.base is None:
        model.save_pretrained(folder)
        return
    own: dict[str, Tensor] = {}
    for name in VoxelClusters.load(run.output("clusters", "clusters")).subjects:
        voxels = model.voxels(name)
        own |= {f"{name}.labels": voxels.labels, f"{name}.embedding": voxels.by_voxel()}
    save_embeddings(folder, own, run.base.output(folder.name, "model"))


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


def load(run: RunFolder, stage: str) -> BrainInteractionTransformer:
    """A trained transformer, ready to predict; an adapted one knows the base's subjects as well."""
    folder = run.output(stage, "model")
    if run.base is None:
        return BrainInteractionTransformer.from_pretrained(folder).eval().to(device())
    model = load(run.base, stage)
    own = load_embeddings(folder, run.base.output(stage, "model"))
    for name in {key.partition(".")[0] for key in own}:
        model.add_subject(name, own[f"{name}.labels"], own[f"{name}.embedding"])
    return model.eval()
