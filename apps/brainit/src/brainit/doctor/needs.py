"""What a profile needs of disk and memory, in bytes: voxels, images and parameters, counted.

Needs are floors: what is stored and held for certain. Activations come on top, and grow with the
batch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from brainit.doctor.world import World
from brainit.models import resolve
from brainit.profile import Decoder, Profile
from brainit.stages.decoding import bit_config
from brainit_bit import BrainInteractionTransformer
from brainit_dip.vgg_tokens import VGGTokens

ADAM, AMSGRAD = 16, 20
"""Bytes a trained float32 parameter takes: itself, its gradient, two moments; AMSGrad's maximum."""
VGG16_WIDTHS, VGG16_SIZE = (64, 128, 256, 512, 512), 112
KINDS = 7
"""Pictures kept of each test image: what was seen and six reconstructions."""


@dataclass(frozen=True)
class Needs:
    """Floors in bytes.

    Attributes:
        disk: Stage to what it leaves in the run folder.
        scratch: What preparing takes besides, until it is done.
        memory: What the ridge baseline holds at once, a subject's betas; trainings read by rows.
        device: What the largest training holds on the computing device.
    """

    disk: dict[str, int]
    scratch: int
    memory: int
    device: int


def needs_of(profile: Profile, world: World) -> Needs:
    """Count what a profile needs in a world."""
    side = profile.data.image_size
    picture, voxels = 3 * side * side, sum(world.voxels)
    cells = sum(n * v for n, v in zip(world.rows, world.voxels, strict=True))
    low_level = parameters(profile, "low_level") + voxels * profile.low_level.dim
    semantic = parameters(profile, "semantic") + voxels * profile.semantic.dim
    encoder = voxels * profile.encoder.dim
    tested = profile.evaluation.images_per_subject or max(world.rows)
    n_pictures = KINDS * len(profile.evaluation.subjects) * tested
    disk = {
        "prepare": world.images * picture + 2 * cells,
        "encoder": _stored(encoder, AMSGRAD),
        "external": world.external * (picture + 2 * voxels),
        "low_level": _stored(low_level, ADAM),
        "semantic": _stored(semantic, ADAM),
        "images": n_pictures * picture,
    }
    if profile.simulation is not None:
        disk["simulate"] = sum(n * 4 * 2 * 10_242 for n in world.trials) + 4 * cells
    tokens, width = clip_tokens(profile)
    disk["tokens"] = 2 * (world.images + world.external) * tokens * width
    return Needs(
        disk=disk,
        scratch=max(4 * n * v for n, v in zip(world.trials, world.voxels, strict=True)),
        memory=max(4 * n * v for n, v in zip(world.rows, world.voxels, strict=True)),
        device=max(AMSGRAD * encoder, ADAM * low_level, ADAM * semantic),
    )


def parameters(profile: Profile, branch: str) -> int:
    """Parameters of a transformer without its voxel embeddings, built without memory."""
    settings: Decoder = getattr(profile, branch)
    tokens, width = vgg_tokens(profile) if branch == "low_level" else clip_tokens(profile)
    config = bit_config(settings, profile.clusters.count, tokens, width)
    with torch.device("meta"):
        model = BrainInteractionTransformer(config)
    return sum(p.numel() for p in model.parameters())


def vgg_tokens(profile: Profile) -> tuple[int, int]:
    """Number and width of the tokens that the low-level branch decodes."""
    folder = Path(resolve(profile.models.vgg))
    widths, size = VGG16_WIDTHS, VGG16_SIZE
    if (folder / "config.json").is_file():
        found = json.loads((folder / "config.json").read_text())
        widths = tuple(stage[-1] for stage in found["channels"])
        size = found["image_size"]
    layout = VGGTokens(list(widths), size, profile.low_level.thumbnail)
    return layout.n_tokens, layout.token_dim


@cache
def _vision(name: str) -> dict[str, int]:
    import open_clip

    folder = Path(name.removeprefix("local-dir:")) / "open_clip_config.json"
    if folder.is_file():
        found = json.loads(folder.read_text())["model_cfg"]
    else:
        found = open_clip.get_model_config(name)
    if found is None:
        raise ValueError(f"models.clip: OpenCLIP knows no model {name!r}")
    vision: dict[str, int] = found["vision_cfg"]
    return vision


def clip_tokens(profile: Profile) -> tuple[int, int]:
    """Number and width of the image model's patch tokens."""
    vision = _vision(resolve(profile.models.clip))
    return (vision["image_size"] // vision["patch_size"]) ** 2, vision["width"]


def _stored(n_parameters: int, training: int) -> int:
    """Best and last checkpoint (all but the gradients), and the model itself."""
    return n_parameters * (2 * (training - 4) + 4)
