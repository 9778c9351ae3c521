"""How pictures reach a metric: resized as the code of a published protocol resizes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from brainit_eval.records.fields import Fields

LIBRARIES = ("tensor", "pil")
FILTERS = ("bilinear", "bicubic", "lanczos")


@dataclass(frozen=True)
class Resize:
    """To a square of ``size`` pixels, no crop.

    Attributes:
        size: Side in pixels.
        library: ``tensor``: floating-point interpolation, as torchvision does for tensors; values
            that bicubic overshoots are clamped to [0, 1]. ``pil``: Pillow on 8-bit pictures.
        filter: ``bilinear``, ``bicubic`` or (Pillow only) ``lanczos``.
        antialias: Whether shrinking averages over all source pixels. Pillow always does;
            torchvision did not do so for tensors up to 0.16 and does since 0.17.
    """

    size: int
    library: str = "tensor"
    filter: str = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        """Refuse what no library does.

        Raises:
            ValueError: If a setting is unknown or two of them contradict each other.
        """
        if self.library not in LIBRARIES or self.filter not in FILTERS or self.size < 1:
            raise ValueError(f"resize: expected a known library and filter, got {self}")
        if self.library == "pil" and not self.antialias:
            raise ValueError("resize: pil always antialiases; expected antialias = true")
        if self.library == "tensor" and self.filter == "lanczos":
            raise ValueError("resize: expected bilinear or bicubic for tensors, got lanczos")

    def __str__(self) -> str:
        plain = "" if self.antialias else ", not antialiased"
        return f"{self.size} px, {self.library} {self.filter}{plain}"

    @classmethod
    def parse(cls, table: Fields) -> Resize:
        """Read one from a protocol file; all four settings must be there."""
        resize = cls(
            table.integer("size", 11, 4096),
            table.text("library", LIBRARIES),
            table.text("filter", FILTERS),
            table.flag("antialias"),
        )
        table.close()
        return resize

    def __call__(self, images: Tensor) -> Tensor:
        """Resize pictures.

        Args:
            images: ``[n, 3, H, W]`` float32 in [0, 1].

        Returns:
            ``[n, 3, size, size]`` float32 in [0, 1].
        """
        if self.library == "pil":
            return torch.stack([self._with_pillow(image) for image in images])
        size = (self.size, self.size)
        if images.shape[-2:] == size:
            return images
        resized = interpolate(images, size, mode=self.filter, antialias=self.antialias)
        return resized.clamp(0, 1)

    def _with_pillow(self, image: Tensor) -> Tensor:
        pixels = (image * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        method = Image.Resampling[self.filter.upper()]
        resized = Image.fromarray(pixels).resize((self.size, self.size), method)
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1).to(image) / 255
