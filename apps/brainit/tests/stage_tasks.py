"""The task of every training stage at its smallest, for tests that only need one to train."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from brainit.models import resolve
from brainit.profile import Profile, Training, load_profile
from brainit.stages import joint
from brainit.stages.decoding import bit_config
from brainit.stages.encoder import encoder_config
from brainit.stages.joint import JointTask
from brainit.stages.low_level import LowLevelTask, layout_of, load_target
from brainit.stages.samples import Batch, Draw
from brainit.stages.semantic import SemanticDecoder, SemanticTask
from brainit_bit import BrainInteractionTransformer
from brainit_clusters.data.dataset import BrainDataset, SubjectData, write_dataset
from brainit_clusters.encoder.backbone import load_backbone
from brainit_clusters.encoder.model import BrainEncoder
from brainit_clusters.encoder.task import EncoderTask
from brainit_diffusion.unclip import UnCLIP

SMALL = [
    *(f"{part}.training.epochs=2" for part in ("encoder", "low_level", "semantic")),
    *(f"{part}.dim=16" for part in ("encoder", "low_level", "semantic")),
    "encoder.channels=8",
    "encoder.voxels_per_image=6",
    "encoder.training.batch_size=10",
    "low_level.queries=[4, 4, 3, 2, 2, 8]",
]
STAGE2 = [
    "stage2.unet=full",
    "stage2.rank=4",
    "stage2.gradient_checkpointing=false",
    "stage2.noise_offset=0.04",
    "stage2.dropout=0.1",
    "stage2.training.optimiser=adamw",
    "stage2.training.learning_rate=1e-4",
    "stage2.training.weight_decay=0.0",
    "stage2.training.batch_size=4",
    "stage2.training.epochs=2",
    "stage2.training.warmup_epochs=0",
    "stage2.training.schedule=cosine",
    "stage2.training.patience=5",
]


def profile(precision: str = "no", accumulate: int = 2) -> Profile:
    """The tiny profile with the smallest models and a stage 2; steps of two batches."""
    parts = ("encoder", "low_level", "semantic", "stage2")
    changes = [f"{part}.training.precision={precision}" for part in parts]
    changes += [f"{part}.training.accumulate={accumulate}" for part in parts]
    return load_profile("tiny", SMALL + STAGE2 + changes)


class Few:
    """Stands for the samples: subjects of a few voxels, and an epoch of a few batches.

    Args:
        voxels: Of each subject.
        n_images: In all; every subject saw all of them.
        batch_size: Images a batch.
        owners: Whose each batch is. Five batches in steps of two leave a short one.
    """

    def __init__(
        self,
        voxels: Sequence[int] = (10, 8, 12),
        n_images: int = 14,
        batch_size: int = 4,
        owners: Sequence[int] = (0, 1, 0, 0, 2),
    ) -> None:
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (n_images, 96, 96, 3), dtype=np.uint8)
        self.subjects = [f"subj{index:02d}" for index in range(len(voxels))]
        self.betas = {
            name: rng.standard_normal((n_images, n), dtype=np.float32)
            for name, n in zip(self.subjects, voxels, strict=True)
        }
        self.batch_size, self.owners = batch_size, owners

    def epoch(self, number: int, batch_size: int, external_per_real: float) -> Sequence[Draw]:
        rng = np.random.default_rng([7, number])
        size, n_images = self.batch_size, len(self.images)
        return [
            Draw(self.subjects[owner], rng.permutation(n_images)[:size], int(rng.integers(2**62)))
            for owner in self.owners
        ]

    def trained_images(self) -> torch.Tensor:
        return torch.arange(len(self.images))

    def load(self, draw: Draw) -> Batch:
        betas = torch.from_numpy(self.betas[draw.subject][draw.samples])
        return Batch(draw.subject, betas, torch.from_numpy(draw.samples), draw.seed)

    def held_out(self, split: str) -> list[Batch]:
        return [self.load(Draw(name, np.arange(6), 0)) for name in self.subjects]


def encoder(folder: Path, profile: Profile, few: Few) -> EncoderTask:
    """Its samples come from a file; an epoch is one batch a subject for ten images to train on."""
    n_images = len(few.images)
    split = np.where(np.arange(n_images) < 4, "val", "train")
    subjects = [
        SubjectData(
            name=name,
            betas=betas,
            image_id=np.arange(n_images),
            repeats=np.ones(n_images, np.int16),
            split=split,
            vertex=np.arange(betas.shape[1], dtype=np.int32),
            hemisphere=np.zeros(betas.shape[1], np.uint8),
            noise_ceiling=np.full(betas.shape[1], 0.8, np.float32),
        )
        for name, betas in few.betas.items()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "dataset.h5"
    write_dataset(path, few.images, np.arange(n_images), subjects, {})
    torch.manual_seed(0)
    backbone = load_backbone(resolve(profile.models.backbone))
    model = BrainEncoder(encoder_config(profile.encoder), backbone)
    for name, betas in few.betas.items():
        model.add_subject(name, betas.shape[1])
    settings = profile.encoder
    with BrainDataset.open(path) as dataset:
        return EncoderTask(
            model,
            dataset,
            batch_size=settings.training.batch_size,
            voxels_per_image=settings.voxels_per_image,
            seed=1,
        )


def semantic(folder: Path, profile: Profile, few: Few) -> SemanticTask:
    samples: Any = few
    tokens = torch.randn(len(few.images), 36, 64, generator=torch.Generator().manual_seed(0)).half()
    model = _transformer(profile.semantic, few, 36, 64)
    return SemanticTask(model, samples, tokens.__getitem__, profile.semantic)


def low_level(folder: Path, profile: Profile, few: Few) -> LowLevelTask:
    samples: Any = few
    vgg = load_target(profile)
    layout = layout_of(vgg)
    model = _transformer(profile.low_level, few, layout.n_tokens, layout.token_dim)
    return LowLevelTask(model, samples, vgg, profile.low_level)


def both(folder: Path, profile: Profile, few: Few) -> JointTask:
    samples: Any = few
    unclip = UnCLIP.load(resolve(profile.models.unclip))
    width = unclip.unet.config.cross_attention_dim
    model = _transformer(profile.semantic, few, 36, width)
    decoder = SemanticDecoder(model, torch.zeros(36, width), torch.ones(()))
    return JointTask(joint.both_of(profile, decoder, unclip), samples, unclip, profile)


def _transformer(settings: Any, few: Few, n_tokens: int, width: int) -> BrainInteractionTransformer:
    torch.manual_seed(0)
    n_clusters = 6
    model = BrainInteractionTransformer(bit_config(settings, n_clusters, n_tokens, width))
    for name, betas in few.betas.items():
        model.add_subject(name, torch.arange(betas.shape[1]) % n_clusters)
    return model


TASKS = {"encoder": encoder, "semantic": semantic, "low_level": low_level, "joint": both}


def training(name: str, profile: Profile) -> Training:
    """How a stage trains."""
    part: Any = getattr(profile, "stage2" if name == "joint" else name)
    config: Training = part.training
    return config
