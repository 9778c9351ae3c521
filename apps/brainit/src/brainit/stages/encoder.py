"""Train the universal brain encoder on the real images of all subjects."""

from __future__ import annotations

from pathlib import Path

import torch

from brainit import engine, processes
from brainit.computing import device
from brainit.models import resolve
from brainit.profile import Encoder
from brainit.run_folder import RunFolder
from brainit_clusters.data.dataset import BrainDataset
from brainit_clusters.encoder.backbone import load_backbone
from brainit_clusters.encoder.config import EncoderConfig
from brainit_clusters.encoder.model import BrainEncoder
from brainit_clusters.encoder.task import EncoderTask


def run(run: RunFolder, fingerprint: str) -> dict[str, Path]:
    """Write the encoder (weights and config) with one embedding per voxel."""
    profile = run.profile
    with BrainDataset.open(run.output("prepare", "dataset")) as dataset:
        encoder = build(run, dataset)
        task = EncoderTask(
            encoder,
            dataset,
            batch_size=profile.encoder.training.batch_size,
            voxels_per_image=profile.encoder.voxels_per_image,
            max_shift=profile.encoder.max_shift,
            seed=profile.seed,
        )
        checkpoints = run.path / "checkpoints" / f"encoder-{fingerprint[:12]}"
        engine.train(task, profile.encoder.training, checkpoints, profile.seed, run.log)
    folder = run.path / "encoder"
    if processes.is_first():
        encoder.save_pretrained(folder)
    return {"encoder": folder}


def build(run: RunFolder, dataset: BrainDataset) -> BrainEncoder:
    """A fresh encoder with an embedding table for every subject of the dataset."""
    config = encoder_config(run.profile.encoder)
    torch.manual_seed(run.profile.seed)
    encoder = BrainEncoder(config, load_backbone(resolve(run.profile.models.backbone)))
    generator = torch.Generator().manual_seed(run.profile.seed)
    for name in dataset.subjects:
        n_voxels = dataset.subject(name, in_memory=False).n_voxels
        encoder.add_subject(name, n_voxels, generator=generator)
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
    encoder = BrainEncoder.from_pretrained(run.output("encoder", "encoder"), backbone=backbone)
    return encoder.eval().to(device())
