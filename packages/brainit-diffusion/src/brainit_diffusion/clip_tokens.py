"""CLIP image tokens: the patch outputs of the last block of an OpenCLIP vision transformer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ClipTokens(nn.Module):
    """The image side of an OpenCLIP model, as tokens to decode and as one embedding to compare.

    Args:
        visual: OpenCLIP's vision transformer.
        mean: Normalisation mean per colour channel.
        std: Normalisation standard deviation per colour channel.

    Raises:
        ValueError: If the model has no plain vision transformer.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, visual: nn.Module, mean: tuple[float, float, float], std: tuple[float, float, float]
    ) -> None:
        super().__init__()
        if not isinstance(visual, open_clip.transformer.VisionTransformer):
            raise ValueError(f"expected an OpenCLIP VisionTransformer, got {type(visual).__name__}")
        self.visual: Any = visual.eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    @classmethod
    def load(cls, name: str, pretrained: str | None = None) -> ClipTokens:
        """Load by OpenCLIP's names; the text side is dropped.

        Args:
            name: "local-dir:FOLDER", "hf-hub:ORG/REPO" or a model name such as "ViT-bigG-14".
            pretrained: For a model name: its weights' tag or file ("laion2b_s39b_b160k"); None
                means random weights.

        Raises:
            FileNotFoundError: If a local folder does not hold a model.
        """
        scheme, _, folder = name.partition("local-dir:")
        if not scheme and not (Path(folder) / "open_clip_config.json").is_file():
            raise FileNotFoundError(f"{folder}: expected an OpenCLIP model (open_clip_config.json)")
        model: Any = open_clip.create_model(name, pretrained=pretrained)
        config = open_clip.get_model_preprocess_cfg(model)
        return cls(model.visual, config["mean"], config["std"])

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width that images are resized to."""
        height, width = self.visual.image_size
        return int(height), int(width)

    @property
    def n_tokens(self) -> int:
        """Number of patch tokens, row by row from the top left (256 for ViT-bigG/14 at 224 px)."""
        rows, columns = self.visual.grid_size
        return int(rows * columns)

    @property
    def width(self) -> int:
        """Width of a token (1,664 for ViT-bigG/14)."""
        return int(self.visual.positional_embedding.shape[1])

    @torch.no_grad()
    def encode(self, images: Tensor, batch_size: int = 64) -> Tensor:
        """Patch tokens of the last block before norm, pooling and projection; no class token.

        Args:
            images: In [0, 1] [B, 3, H, W], any size; resized (bicubic, antialiased) to a square.
            batch_size: Images at a time.

        Returns:
            Tokens [B, T, W], float32 on the images' device.
        """
        return self._batched(self._tokens, images, batch_size)

    @torch.no_grad()
    def embed(self, images: Tensor, batch_size: int = 64) -> Tensor:
        """Pooled and projected embedding [B, E] of images in [0, 1], of any length."""
        return self._batched(self.visual, images, batch_size)

    def _tokens(self, pixels: Tensor) -> Tensor:
        last = self.visual.forward_intermediates(
            pixels, indices=1, output_fmt="NLC", intermediates_only=True
        )
        tokens: Tensor = last["image_intermediates"][0]
        return tokens

    def _batched(self, function: Any, images: Tensor, batch_size: int) -> Tensor:
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ValueError(
                f"images: expected float [B, 3, H, W], got {images.dtype} {tuple(images.shape)}"
            )
        parts = [function(self._pixels(part)).float() for part in images.split(batch_size)]
        return torch.cat(parts).to(images.device)

    def _pixels(self, images: Tensor) -> Tensor:
        """Resize and normalise."""
        images = images.to(self.mean)
        if images.shape[-2:] != self.image_size:
            images = F.interpolate(
                images, self.image_size, mode="bicubic", antialias=True, align_corners=False
            ).clamp(0, 1)
        return (images - self.mean) / self.std
