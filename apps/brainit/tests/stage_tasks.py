"""The task of every training stage at its smallest, for tests that only need one to train."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from brainit.computing import device
from brainit.models import resolve
from brainit.profile import Profile, Training, load_profile
from brainit.stages.decoding import Batch, Draw, bit_config
from brainit.stages.encoder import encoder_config
from brainit.stages.low_level import LowLevelTask, layout_of, load_target
from brainit.stages.semantic import SemanticTask
from brainit_bit import BrainInteractionTransformer
from brainit_clusters.data.dataset import BrainDataset, SubjectData, write_dataset
from brainit_clusters.encoder.backbone import load_backbone
from brainit_clusters.encoder.model import BrainEncoder
from brainit_clusters.encoder.task import EncoderTask

N_IMAGES, N_VOXELS = 14, 10
SUBJECTS = ("a", "b", "c")
SMALL = [
    *(f"{part}.training.epochs=2" for part in ("encoder", "low_level", "semantic")),
    *(f"{part}.dim=16" for part in ("encoder", "low_level", "semantic")),
    "encoder.channels=8",
    "low_level.queries=[4, 4, 3, 2, 2, 8]",
]


def profile(precision: str = "no", accumulate: int = 2) -> Profile:
    """The tiny profile with the smallest models; steps of two batches."""
    parts = ("encoder", "low_level", "semantic")
    changes = [f"{part}.training.precision={precision}" for part in parts]
    changes += [f"{part}.training.accumulate={accumulate}" for part in parts]
    return load_profile("tiny", SMALL + changes)


class FewSamples:
    """Stands for the samples: two subjects, five batches an epoch: the last step is short."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (N_IMAGES, 96, 96, 3), dtype=np.uint8)
        self.betas = {name: rng.normal(size=(N_IMAGES, N_VOXELS)) for name in SUBJECTS}

    def epoch(self, number: int, batch_size: int, external_per_real: float) -> Sequence[Draw]:
        rng = np.random.default_rng([7, number])
        owners = [SUBJECTS[index] for index in (0, 1, 0, 0, 2)]
        return [
            Draw(name, rng.permutation(N_IMAGES)[:4], int(rng.integers(2**62))) for name in owners
        ]

    def trained_images(self) -> torch.Tensor:
        return torch.arange(N_IMAGES)

    def load(self, draw: Draw) -> Batch:
        betas = torch.from_numpy(self.betas[draw.subject][draw.samples]).float()
        return Batch(draw.subject, betas.to(device()), torch.from_numpy(draw.samples), draw.seed)

    def held_out(self, split: str) -> list[Batch]:
        return [self.load(Draw(name, np.arange(6), 0)) for name in SUBJECTS]


def encoder(folder: Path, profile: Profile) -> EncoderTask:
    samples, path = FewSamples(), folder / "dataset.h5"
    split = np.where(np.arange(N_IMAGES) < 4, "val", "train")
    ids = np.arange(N_IMAGES)
    subjects = [
        SubjectData(
            name=name,
            betas=samples.betas[name].astype(np.float32),
            image_id=ids,
            repeats=np.ones(N_IMAGES, np.int16),
            split=split,
            vertex=np.arange(N_VOXELS, dtype=np.int32),
            hemisphere=np.zeros(N_VOXELS, np.uint8),
            noise_ceiling=np.full(N_VOXELS, 0.8, np.float32),
        )
        for name in SUBJECTS
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_dataset(path, samples.images, ids, subjects, {})
    torch.manual_seed(0)
    model = BrainEncoder(
        encoder_config(profile.encoder), load_backbone(resolve(profile.models.backbone))
    )
    generator = torch.Generator().manual_seed(0)
    for name in SUBJECTS:
        model.add_subject(name, N_VOXELS, generator=generator)
    with BrainDataset.open(path) as dataset:
        return EncoderTask(model, dataset, batch_size=10, voxels_per_image=8, seed=1)


def _transformer(settings: Any, n_tokens: int, width: int) -> BrainInteractionTransformer:
    torch.manual_seed(0)
    model = BrainInteractionTransformer(bit_config(settings, 3, n_tokens, width))
    for name in SUBJECTS:
        model.add_subject(name, torch.arange(N_VOXELS) % 3, generator=torch.Generator())
    return model


def semantic(folder: Path, profile: Profile) -> SemanticTask:
    samples: Any = FewSamples()
    tokens = torch.randn(N_IMAGES, 9, 8, generator=torch.Generator().manual_seed(0)).half()
    model = _transformer(profile.semantic, 9, 8)
    return SemanticTask(model, samples, tokens, profile.semantic)


def low_level(folder: Path, profile: Profile) -> LowLevelTask:
    samples: Any = FewSamples()
    vgg = load_target(profile)
    layout = layout_of(vgg)
    model = _transformer(profile.low_level, layout.n_tokens, layout.token_dim)
    return LowLevelTask(model, samples, vgg, profile.low_level)


TASKS = {"encoder": encoder, "semantic": semantic, "low_level": low_level}


def training(name: str, profile: Profile) -> Training:
    """How a stage trains."""
    part: Any = getattr(profile, name)
    config: Training = part.training
    return config
