"""A feed-forward network from VGG features to the image: what DIP seeks, in one pass."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from brainit_dip.files import replacing
from brainit_dip.vgg import VGGFeatures

MAX_WIDTH = 256


@dataclass(frozen=True)
class InverterConfig:
    """Size of an inverter.

    Attributes:
        map_shapes: (channels, height, width) of the maps it reads, finest first, a thumbnail last.
        width: Channels at the finest map; doubled as sides halve, up to 256.
        blocks: Residual blocks per level.
    """

    map_shapes: tuple[tuple[int, int, int], ...]
    width: int = 32
    blocks: int = 2

    def __post_init__(self) -> None:
        """Raise ValueError for sizes that are not positive."""
        if not self.map_shapes or min(self.width, self.blocks) < 1:
            raise ValueError("map_shapes, width and blocks: expected one or more of each")

    @classmethod
    def of(cls, vgg: VGGFeatures, width: int = 32, blocks: int = 2) -> InverterConfig:
        """For the maps of a VGG."""
        return cls(tuple(vgg.map_shapes()), width, blocks)


class Inverter(nn.Module):
    """Images from feature maps, coarse to fine.

    Each map enters by a 1x1 convolution at its own resolution and is added to what the coarser
    levels made of theirs; residual blocks of 3x3 convolutions follow. After Dosovitskiy and Brox
    (arXiv 1506.02753), who invert one layer, but reads all levels at once. Trained by
    `divergence` it gives the mean of the images that uncertain features leave possible: blurred
    where they say little.
    """

    scales: Tensor

    def __init__(self, config: InverterConfig) -> None:
        """Draw weights from torch's global generator."""
        super().__init__()
        self.config = config
        finest = config.map_shapes[0][1]
        shapes = config.map_shapes
        widths = [min(config.width * finest // side, MAX_WIDTH) for _, side, _ in shapes]
        self._order = sorted(range(len(shapes)), key=lambda level: shapes[level][1])
        self.entries = nn.ModuleList(
            nn.Conv2d(shape[0], width, 1) for shape, width in zip(shapes, widths, strict=True)
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(*(_Residual(width) for _ in range(config.blocks))) for width in widths
        )
        following = [*self._order[1:], None]
        self.exits = nn.ModuleDict(
            {
                str(level): nn.Conv2d(widths[level], 3 if after is None else widths[after], 1)
                for level, after in zip(self._order, following, strict=True)
            }
        )
        self.register_buffer("scales", torch.ones(len(shapes)))

    def calibrate(self, maps: Sequence[Tensor]) -> None:
        """Take the maps' root mean squares as the units of each level."""
        self.scales.copy_(torch.stack([x.square().mean().sqrt() for x in maps]))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Images [B, 3, S, S] in (0, 1), S the side of the finest map.

        Raises:
            ValueError: If the maps are not those of `config.map_shapes`.
        """
        return torch.sigmoid(self.logits(maps))

    def logits(self, maps: Sequence[Tensor]) -> Tensor:
        """What `forward` takes the sigmoid of, in float32 at the least; raises as it does."""
        found = tuple(tuple(x.shape[1:]) for x in maps)
        if found != self.config.map_shapes:
            raise ValueError(
                f"maps: expected [B, C, H, W] of {self.config.map_shapes}, got {found}"
            )
        x: Tensor | None = None
        for level in self._order:
            entry = self.entries[level](maps[level] / self.scales[level])
            if x is not None:
                entry = entry + F.interpolate(x, size=entry.shape[2:], mode="bilinear")
            x = self.exits[str(level)](self.blocks[level](entry))
        assert x is not None
        return x.float() if x.dtype == torch.bfloat16 else x

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json`, each replaced when whole."""
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "config.json") as temporary:
            temporary.write_text(json.dumps(asdict(self.config), indent=2) + "\n")
        with replacing(folder / "model.safetensors") as temporary:
            save_file({k: v.contiguous() for k, v in self.state_dict().items()}, temporary)

    @classmethod
    def load(cls, folder: Path) -> Inverter:
        """Read what `save` wrote, frozen, in evaluation mode, on the CPU.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If the files are not those of an inverter.
        """
        for file in (folder / "config.json", folder / "model.safetensors"):
            if not file.is_file():
                raise FileNotFoundError(f"{file}: no such file; expected an inverter's folder")
        try:
            config = json.loads((folder / "config.json").read_text())
            shapes = tuple(tuple(shape) for shape in config.pop("map_shapes"))
            model = cls(InverterConfig(shapes, **config))
            model.load_state_dict(load_file(folder / "model.safetensors"))
        except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise ValueError(
                f"{folder}: not an inverter: {' '.join(str(error).split())}"
            ) from error
        return model.eval().requires_grad_(False)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(F.gelu(self.first(F.gelu(x))))
        return x + change
