"""Images that are their own parameters, and their total variation: DIP's plain baseline."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from brainit_dip.skip_network import START_MARGIN


class PixelImages(nn.Module):
    """N images as logits of their pixels, in the place of N skip networks."""

    def __init__(self, image_size: int, generators: Sequence[torch.Generator]) -> None:
        """Start near mid-grey; `generators[i]`, of the CPU, draws the grain of image i."""
        super().__init__()
        shape = (3, image_size, image_size)
        grain = torch.stack([torch.randn(shape, generator=g) for g in generators])
        self.logits = nn.Parameter(0.1 * grain)

    def start_from(self, images: Tensor) -> None:
        """Start at these images [N, 3, S, S] in [0, 1]."""
        with torch.no_grad():
            self.logits.copy_(torch.logit(images, eps=START_MARGIN))

    def forward(self, noise: Tensor) -> Tensor:
        """Images [N, 3, S, S] in (0, 1); the noise, which a network would read, does not count."""
        return torch.sigmoid(self.logits)


def total_variation(images: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels of each image, [N].

    Anisotropic: the mean over vertical plus the mean over horizontal neighbours.
    """
    down = images.diff(dim=2).abs().flatten(1).mean(1)
    across = images.diff(dim=3).abs().flatten(1).mean(1)
    return down + across
