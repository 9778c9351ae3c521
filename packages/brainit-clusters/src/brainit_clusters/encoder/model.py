"""The universal brain encoder: one network that predicts every voxel of every subject.

What is particular to a voxel is its embedding. Universal Brain Encoder (arXiv 2406.12179), in
the form that Brain-IT (arXiv 2510.25976) uses.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from brainit_clusters._files import existing, replacing
from brainit_clusters.encoder.backbone import Backbone, load_backbone
from brainit_clusters.encoder.config import EncoderConfig
from brainit_clusters.encoder.low_rank import LowRankResidual
from brainit_clusters.encoder.tap import FoldedTap, Tap

_WEIGHTS, _CONFIG, _BACKBONE = "model.safetensors", "config.json", "backbone."


def _attention_kernel(device: torch.device) -> AbstractContextManager[None]:
    """On a CPU the plain attention: the fused one has a very slow bfloat16 backward pass."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


class BrainEncoder(nn.Module):
    """Images to the responses of any voxel of any subject it knows.

    Args:
        config: Sizes.
        backbone: Frozen image backbone; its weights are not saved with the encoder.

    Raises:
        ValueError: if the backbone has fewer blocks than the last tap.
    """

    def __init__(self, config: EncoderConfig, backbone: Backbone) -> None:
        super().__init__()
        if config.taps[-1] > len(backbone.blocks):
            raise ValueError(
                f"tap {config.taps[-1]}: backbone {backbone.name!r} has "
                f"{len(backbone.blocks)} blocks"
            )
        self.config = config
        self.backbone = backbone
        self.low_rank = nn.ModuleList(
            LowRankResidual(backbone.width, config.rank, config.alpha)
            for _ in range(config.taps[-1] if config.rank else 0)
        )
        self.taps = nn.ModuleList(Tap(backbone.width, config) for _ in config.taps)
        scale = 1 / math.sqrt(config.dim)
        self.position = nn.Parameter(scale * torch.randn(backbone.n_tokens, config.dim))
        self.readout_weight = nn.Parameter(
            scale * torch.randn(config.dim, len(config.taps) * config.channels)
        )
        self.voxels = nn.ParameterDict()

    @property
    def subjects(self) -> list[str]:
        """Names of the subjects it knows, in the order they were added."""
        return list(self.voxels.keys())

    def add_subject(
        self, name: str, n_voxels: int, generator: torch.Generator | None = None
    ) -> None:
        """Give each voxel of a new subject an embedding from N(0, (0.1 / (2 sqrt E))^2).

        Raises:
            ValueError: if the name is taken or there is no voxel.
        """
        if name in self.voxels:
            raise ValueError(f"subject {name!r} is there already")
        if n_voxels < 1:
            raise ValueError(f"subject {name!r}: {n_voxels} voxels, expected at least one")
        like = self.readout_weight
        std = 0.1 / (2 * math.sqrt(self.config.dim))
        start = std * torch.randn(n_voxels, self.config.dim, generator=generator)
        self.voxels[name] = nn.Parameter(start.to(like.device, like.dtype))

    def voxel_embedding(self, subject: str) -> Tensor:
        """The trained embeddings of a subject's voxels: [N_s, E].

        Raises:
            ValueError: if there is no such subject.
        """
        if subject not in self.voxels:
            raise ValueError(f"no subject {subject!r}, expected one of {self.subjects}")
        embedding: Tensor = self.voxels[subject]
        return embedding

    def tokens(self, images: Tensor) -> list[Tensor]:
        """What the backbone, with its low-rank residuals, makes of images, at each tap.

        With `rank` 0 this never changes in training, so a training loop may compute it once.

        Args:
            images: [B, 3, H, W] in [0, 1].

        Returns:
            One [B, T, width] a tap.
        """
        with _attention_kernel(images.device):
            x = self.backbone.embed(images)
            taken: list[Tensor] = []
            for number, block in enumerate(self.backbone.blocks[: self.config.taps[-1]], start=1):
                x = block(x)
                if self.config.rank:
                    x = self.low_rank[number - 1](x)
                if number in self.config.taps:
                    taken.append(self.backbone.tokens(x))
        return taken

    def values(self, tokens: list[Tensor]) -> list[Tensor]:
        """What voxels attend to: [B, T, width] a tap to [B, T, C] a tap."""
        return [tap.values(part) for tap, part in zip(self.tap_list, tokens, strict=True)]

    def features(self, images: Tensor) -> list[Tensor]:
        """`values` of `tokens`: all that any voxel reads of the images, computed once.

        Args:
            images: [B, 3, H, W] in [0, 1].

        Returns:
            One [B, T, C] a tap.
        """
        return self.values(self.tokens(images))

    @property
    def tap_list(self) -> list[Tap]:
        """The taps, in the order of their blocks."""
        return [tap for tap in self.taps if isinstance(tap, Tap)]

    def fold(self, subject: str, voxels: Tensor | None = None) -> Iterator[FoldedTap]:
        """Everything that does not depend on the image, for some voxels of a subject (or all).

        One a tap, made when it is asked for: all of them would take several times the memory.

        Args:
            subject: Name of the subject.
            voxels: [V] indices.
        """
        embedding = self.voxel_embedding(subject)
        if voxels is not None:
            embedding = embedding[voxels]
        weights = (embedding @ self.readout_weight).split(self.config.channels, dim=1)
        for tap, weight in zip(self.tap_list, weights, strict=True):
            yield tap.fold(embedding, self.position, weight)

    def read(self, features: list[Tensor], voxels: Iterable[FoldedTap]) -> Tensor:
        """Responses of folded voxels: [B, V]."""
        taps = zip(self.tap_list, features, voxels, strict=True)
        return torch.stack([tap(values, part) for tap, values, part in taps]).sum(dim=0)

    def readout(self, features: list[Tensor], subject: str, voxels: Tensor | None = None) -> Tensor:
        """Predicted responses of one subject's voxels.

        Args:
            features: What `features` returned.
            subject: Name of the subject.
            voxels: [V] indices, or None for all.

        Returns:
            [B, V], in the unit of the betas it was trained on (z-scores).
        """
        return self.read(features, self.fold(subject, voxels))

    def forward(self, images: Tensor, subject: str, voxels: Tensor | None = None) -> Tensor:
        """`readout` of `features`: images [B, 3, H, W] in [0, 1] -> [B, V]."""
        return self.readout(self.features(images), subject, voxels)

    def freeze_for_adaptation(self, subject: str) -> None:
        """Leave only one subject's voxel embeddings trainable (a new subject; Brain-IT sec. 3)."""
        embedding = self.voxel_embedding(subject)
        self.requires_grad_(False)
        embedding.requires_grad_(True)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write `model.safetensors` and `config.json` into a folder.

        The backbone is frozen, so only its name is written; the low-rank residuals are saved.
        """
        folder = Path(folder)
        state = {
            name: value.detach().cpu().contiguous()
            for name, value in self.state_dict().items()
            if not name.startswith(_BACKBONE)
        }
        config = {
            "encoder": asdict(self.config),
            "backbone": {"name": self.backbone.name, "image_size": self.backbone.image_size},
            "subjects": {name: len(self.voxel_embedding(name)) for name in self.subjects},
        }
        with replacing(folder / _WEIGHTS) as temporary:
            save_file(state, temporary)
        with replacing(folder / _CONFIG) as temporary:
            temporary.write_text(json.dumps(config, indent=2) + "\n")
        return folder

    @classmethod
    def from_pretrained(cls, folder: str | Path, backbone: Backbone | None = None) -> Self:
        """Read what `save_pretrained` wrote; in evaluation mode.

        Args:
            folder: The folder.
            backbone: The same backbone, where it is loaded already or has moved; else it is
                loaded by its name.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: if a file is not what it should be.
        """
        folder = Path(folder)
        path = existing(folder / _CONFIG, "an encoder's configuration")
        weights = existing(folder / _WEIGHTS, "an encoder's weights")
        try:
            config = json.loads(path.read_text())
            settings, subjects = EncoderConfig(**config["encoder"]), config["subjects"]
            name, image_size = config["backbone"]["name"], config["backbone"]["image_size"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: not an encoder's configuration ({error})") from error
        encoder = cls(settings, backbone or load_backbone(name, image_size))
        for subject, n_voxels in subjects.items():
            encoder.add_subject(subject, n_voxels)
        try:
            found = encoder.load_state_dict(load_file(weights), strict=False)
        except (RuntimeError, SafetensorError) as error:
            raise ValueError(f"{weights}: does not fit {path.name} ({error})") from error
        missing = [name for name in found.missing_keys if not name.startswith(_BACKBONE)]
        if missing or found.unexpected_keys:
            raise ValueError(
                f"{weights}: missing {missing[:3]}, unexpected {found.unexpected_keys[:3]}"
            )
        return encoder.eval()
