"""What `Tap` computes of many voxels and images, on a CPU, in memory that is taken once."""

from __future__ import annotations

import torch
from torch import Tensor

from brainit_clusters.encoder.tap import FoldedTap, Tap


class ImageReader:
    """Reads blocks of voxels, one image after the other.

    Products with single images are plain matrices, the fastest there are on a CPU. What lies
    between an image and its responses is written over what it was for the last image: fresh memory
    costs more than the sums in it, as the system hands it out page by page.

    Args:
        n_voxels: The most voxels of a block.
        values: Like the values [n, T, C] to read, in their precision.
        hidden: Width of the MLP.
    """

    def __init__(self, n_voxels: int, values: Tensor, hidden: int) -> None:
        widths = (*values.shape[1:], hidden)
        self._memory = [values.new_empty(n_voxels, width) for width in widths]

    def __call__(self, tap: Tap, values: Tensor, voxels: FoldedTap, responses: Tensor) -> None:
        """Add a tap's share of the responses, as the tap has it in evaluation mode.

        Args:
            tap: The tap.
            values: [n, T, C].
            voxels: V voxels, in the precision of the values.
            responses: [n, V], added to.
        """
        scores, attended, hidden = (part[: len(voxels.offset)] for part in self._memory)
        weight, bias = tap.fc1.weight.to(values.dtype).T, tap.fc1.bias.to(values.dtype)
        with torch.autocast("cpu", enabled=False):
            for image, row in zip(values, responses, strict=True):
                torch.addmm(voxels.position, voxels.query, image.T, out=scores)
                torch.softmax(scores, dim=1, out=scores)
                torch.mm(scores, image, out=attended)
                normed = tap.norm(attended)
                torch.addmm(bias, normed, weight, out=hidden)
                torch.ops.aten.gelu_(hidden)
                row += voxels.offset
                row += normed.mul_(voxels.direct).sum(dim=1)
                row += hidden.mul_(voxels.hidden).sum(dim=1)
