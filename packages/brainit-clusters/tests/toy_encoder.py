"""A backbone of three tiny blocks, and a world of four kinds of voxels."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from brainit_clusters.data.dataset import SubjectData, write_dataset
from brainit_clusters.encoder.backbone import Backbone

SIZE = 12
N_KINDS = 4


class PatchEmbed(nn.Module):
    def __init__(self):
        super().__init__()
        self.cls = nn.Parameter(torch.randn(1, 1, 8))
        self.conv = nn.Conv2d(3, 8, 4, 4)

    def forward(self, images):
        patches = self.conv(images).flatten(2).transpose(1, 2)
        return torch.cat([self.cls.expand(len(images), -1, -1), patches], dim=1)


def backbone():
    """Takes 12 x 12 pixels, 9 patches, 3 blocks of width 8."""
    embed = PatchEmbed()
    blocks = [nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8)) for _ in range(3)]
    return Backbone("toy", embed, embed, blocks, width=8, image_size=SIZE, n_patches=9)


def kinds(images):
    """What each kind of voxel responds to: [n, 4], standardised."""
    x = images.astype(np.float64)
    values = np.stack(
        [
            x[:, :4, :4].mean((1, 2, 3)),
            x[:, 8:, 8:].mean((1, 2, 3)),
            x[..., 0].mean((1, 2)),
            x[..., 2].mean((1, 2)),
        ],
        axis=1,
    )
    return (values - values.mean(axis=0)) / values.std(axis=0)


def write_world(path, n_subjects=2, n_voxels=40, n_images=120):
    """Images of coloured patches, and subjects whose voxels are of four kinds, with noise.

    Returns:
        The dataset's path and each subject's kinds of voxels.
    """
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 256, (n_images, 3, 3, 3))
    images = patches.repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)
    tuning = kinds(images)
    split = np.where(np.arange(n_images) % 4 == 0, "val", "train")
    subjects, truth = [], {}
    for number in range(1, n_subjects + 1):
        name = f"subj{number:02d}"
        truth[name] = rng.permutation(np.arange(n_voxels) % N_KINDS)
        noise = 0.5 * rng.normal(size=(n_images, n_voxels))
        betas = (tuning[:, truth[name]] + noise).astype(np.float32)
        subjects.append(
            SubjectData(
                name=name,
                betas=betas,
                image_id=np.arange(n_images),
                repeats=np.ones(n_images, np.int16),
                split=split,
                vertex=np.arange(n_voxels, dtype=np.int32),
                hemisphere=np.zeros(n_voxels, np.uint8),
                noise_ceiling=np.full(n_voxels, 0.8, np.float32),  # 1 / (1 + 0.5^2)
            )
        )
    write_dataset(path, images, np.arange(n_images), subjects, {})
    return path, truth
