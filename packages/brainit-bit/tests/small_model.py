"""A transformer of two subjects that is small enough to compare number by number."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from brainit_bit import BITConfig, BrainInteractionTransformer

CONFIG = BITConfig(n_clusters=6, dim=16, n_heads=4, n_rounds=2, n_query_tokens=10, output_dim=5)
VOXELS = {"subj01": 40, "subj02": 25}


def make_model(
    dtype: torch.dtype = torch.float32, config: BITConfig = CONFIG
) -> BrainInteractionTransformer:
    """Weights far from the near-uniform start; the last cluster holds no voxel."""
    torch.manual_seed(0)
    model = BrainInteractionTransformer(config)
    generator = torch.Generator().manual_seed(0)
    for name, n_voxels in VOXELS.items():
        model.add_subject(name, torch.randint(0, 5, (n_voxels,), generator=generator))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.to(dtype)


def activations(n_voxels: int = 40, dtype: torch.dtype = torch.float32, batch: int = 3) -> Tensor:
    """Responses of one subject, [batch, n_voxels]."""
    return torch.randn(batch, n_voxels, generator=torch.Generator().manual_seed(2)).to(dtype)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Gradients by parameter name; no entry where there is none."""
    named = model.named_parameters()
    return {name: one.grad for name, one in named if one.grad is not None}
