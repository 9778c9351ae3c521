"""What both transformers train on: real and predicted responses, one subject a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from brainit.adaptation import load_embeddings, save_embeddings
from brainit.computing import device
from brainit.profile import Decoder
from brainit.run_folder import RunFolder
from brainit.stages import encoder as encoder_stage
from brainit_bit import (
    BITConfig,
    BrainInteractionTransformer,
    draw_voxels,
    freeze_for_adaptation,
    grid_queries,
)
from brainit_clusters.clusters import VoxelClusters
from brainit_clusters.data.dataset import BrainDataset
from brainit_clusters.encoder.predict import ExternalResponses
from brainit_clusters.whitening import whitened


@dataclass(frozen=True)
class Batch:
    """Responses of one subject, the images that evoked them, and the seed of the batch's draws.

    Attributes:
        subject: Its name.
        activations: z-scored betas, float32 [B, N_s], on the computing device.
        images: Indices into `Samples.images`, int64 [B], on the host as the images are.
        seed: Seed of the voxels and query tokens drawn for this batch.
    """

    subject: str
    activations: Tensor
    images: Tensor
    seed: int


@dataclass(frozen=True)
class Draw:
    """What a batch will hold: rows of a subject's responses, or -1 - index of an external image."""

    subject: str
    samples: NDArray[np.int64]
    seed: int


class Samples:
    """Real and external samples of all subjects over one table of images.

    Attributes:
        images: uint8 [n, H, W, 3], the dataset's images followed by the external ones.
    """

    def __init__(self, run: RunFolder) -> None:
        with BrainDataset.open(run.output("prepare", "dataset")) as dataset:
            self.subjects = {name: dataset.subject(name) for name in dataset.subjects}
            ids = np.unique(
                np.concatenate([s.image_id[s.split != "test"] for s in self.subjects.values()])
            )
            real = dataset.images(ids)
        with ExternalResponses.open(run.output("external", "external")) as external:
            self.external = {name: external.responses(name) for name in self.subjects}
            pictures = external.images()
        self.images: NDArray[np.uint8] = np.concatenate([real, pictures])
        self.n_real = len(real)
        self.noise = {name: self._unexplained(name) for name in self.subjects}
        self.image_of = {
            name: np.searchsorted(ids, s.image_id) for name, s in self.subjects.items()
        }
        self.seed = run.profile.seed

    def epoch(self, number: int, batch_size: int, external_per_real: float) -> Sequence[Draw]:
        """Every real training sample once; each external image as one random subject sees it."""
        rng = np.random.default_rng([self.seed, number])
        n_external = len(self.images) - self.n_real
        chosen = rng.permutation(n_external)[: round(external_per_real * self._n_train())]
        owners = rng.integers(len(self.subjects), size=len(chosen))
        batches = []
        for index, name in enumerate(self.subjects):
            real = self.subjects[name].rows("train")
            samples = np.concatenate([real, -1 - chosen[owners == index]])
            rng.shuffle(samples)
            for part in np.array_split(samples, max(1, round(len(samples) / batch_size))):
                batches.append(Draw(name, part, int(rng.integers(2**62))))
        return [batches[i] for i in rng.permutation(len(batches))]

    def trained_images(self) -> Tensor:
        """Indices of the images that training uses, external ones included, int64 [n]."""
        real = [self.image_of[name][s.rows("train")] for name, s in self.subjects.items()]
        external = np.arange(self.n_real, len(self.images))
        return torch.from_numpy(np.unique(np.concatenate([*real, external])))

    def held_out(self, split: str) -> list[Batch]:
        """All real samples of a split, one batch a subject."""
        return [
            self.load(Draw(name, subject.rows(split), index))
            for index, (name, subject) in enumerate(self.subjects.items())
        ]

    def _unexplained(self, name: str) -> NDArray[np.float32]:
        """Per voxel the standard deviation that measured responses have beyond predicted ones.

        Predictions carry neither noise nor what the encoder misses. Without it a decoder learns to
        trust patterns that no scan is clean enough to show.
        """
        measured = self.subjects[name].betas[self.subjects[name].rows("train")].var(0)
        gap = measured - self.external[name].astype(np.float32).var(0)
        result: NDArray[np.float32] = np.sqrt(gap.clip(min=0))
        return result

    def _n_train(self) -> int:
        return sum(len(s.rows("train")) for s in self.subjects.values())

    def load(self, draw: Draw) -> Batch:
        """The responses that a draw names."""
        name, samples = draw.subject, draw.samples
        is_real = samples >= 0
        activations = np.empty((len(samples), len(self.subjects[name].vertex)), np.float32)
        activations[is_real] = self.subjects[name].betas[samples[is_real]]
        predicted = self.external[name][-1 - samples[~is_real]].astype(np.float32)
        noise = np.random.default_rng(draw.seed).standard_normal(predicted.shape, np.float32)
        activations[~is_real] = predicted + self.noise[name] * noise
        real_image = self.image_of[name][np.where(is_real, samples, 0)]
        images = np.where(is_real, real_image, self.n_real - 1 - samples)
        return Batch(
            name, torch.from_numpy(activations).to(device()), torch.from_numpy(images), draw.seed
        )


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

    def draw_voxels(self, batch: Batch) -> tuple[Tensor, torch.Generator]:
        """How often each voxel is drawn, [B, N_s], and the generator for what else is random."""
        generator = torch.Generator().manual_seed(batch.seed)
        n, n_voxels = batch.activations.shape
        n_drawn = min(self.settings.voxels_drawn, n_voxels)
        drawn = draw_voxels(n_voxels, n_drawn, n, generator)
        return drawn.to(batch.activations.device), generator


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


def save(run: RunFolder, stage: str, model: BrainInteractionTransformer) -> Path:
    """Write a trained transformer, or what is the new subject's own in an adapted one.

    Returns:
        The folder, for `load`.
    """
    folder = run.path / stage
    if run.base is None:
        model.save_pretrained(folder)
        return folder
    own = {}
    for name in VoxelClusters.load(run.output("clusters", "clusters")).subjects:
        voxels = model.voxels(name)
        own |= {f"{name}.labels": voxels.labels, f"{name}.embedding": voxels.by_voxel()}
    save_embeddings(folder, own, run.base.output(stage, "model"))
    return folder


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
