"""Train the universal brain encoder on the real images of all subjects."""

from __future__ import annotations

from pathlib import Path

import torch

from brainit import engine
from brainit.adaptation import load_embeddings, save_embeddings
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
    """Write the encoder with one embedding per voxel; of an adapted one, the new embeddings."""
    profile = run.profile
    with BrainDataset.open(run.output("prepare", "dataset")) as dataset:
        subjects = dataset.subjects
        encoder = build(run, dataset)
        task = EncoderTask(
            encoder,
            dataset,
            subjects,
            batch_size=profile.encoder.training.batch_size,
            voxels_per_image=profile.encoder.voxels_per_image,
            max_shift=profile.encoder.max_shift,
            seed=profile.seed,
        )
    checkpoints = run.path / "checkpoints" / f"encoder-{fingerprint[:12]}"
    engine.train(task, profile.encoder.training, checkpoints, profile.seed, run.log)
    folder = run.path / "encoder"
    if run.base is None:
        encoder.save_pretrained(folder)
    else:
        new = {name: encoder.voxel_embedding(name) for name in subjects}
        save_embeddings(folder, new, run.base.output("encoder", "encoder"))
    return {"encoder": folder}


def build(run: RunFolder, dataset: BrainDataset) -> BrainEncoder:
    """An encoder with a fresh embedding table for every subject of the dataset.

    The rest is fresh too, or the base's, and then frozen.
    """
    torch.manual_seed(run.profile.seed)
    if run.base is None:
        backbone = load_backbone(resolve(run.profile.models.backbone))
        encoder = BrainEncoder(encoder_config(run.profile.encoder), backbone)
    else:
        encoder = load(run.base)
    generator = torch.Generator().manual_seed(run.profile.seed)
    for name in dataset.subjects:
        encoder.add_subject(name, len(dataset.subject(name).vertex), generator=generator)
        if run.base is not None:
            encoder.freeze_for_adaptation(name)
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
    """The trained encoder of a run; of an adapted one, with the base's subjects as well."""
    if run.base is not None:
        return _load_adapted(run, run.base)
    backbone = load_backbone(resolve(run.profile.models.backbone))
    encoder = BrainEncoder.from_pretrained(run.output("encoder", "encoder"), backbone=backbone)
    return encoder.eval().to(device())


def _load_adapted(run: RunFolder, base: RunFolder) -> BrainEncoder:
    encoder = load(base)
    folder = run.output("encoder", "encoder")
    for name, values in load_embeddings(folder, base.output("encoder", "encoder")).items():
        encoder.add_subject(name, len(values))
        with torch.no_grad():
            encoder.voxel_embedding(name).copy_(values)
    return encoder
