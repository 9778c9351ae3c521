"""Fusing the branches: the semantic model finishes what the low-level image starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from brainit_diffusion.unclip import UnCLIP

Refiner = Callable[[Tensor, Sequence[int]], Tensor]


@dataclass(frozen=True)
class Fusion:
    """A fusion with its intermediates; images in [0, 1], all float32 on the CPU.

    Attributes:
        images: The final images: refined ones if there is a refiner, else `fused`.
        fused: What the semantic model made of the coarse images and the tokens [B, 3, S, S].
        coarse: The VAE's copy of the coarse images, all that the start can hold [B, 3, S, S];
            only if it was asked for.
        latents: After every step that ran, on the scheduler's scale [B, steps, C, h, w]; likewise.
    """

    images: Tensor
    fused: Tensor
    coarse: Tensor | None = None
    latents: Tensor | None = None


def fuse(
    unclip: UnCLIP,
    tokens: Tensor,
    coarse: Tensor,
    start_step: int = 14,
    contrast: float = 0.8,
    *,
    seeds: Sequence[int],
    refiner: Refiner | None = None,
    keep: bool = False,
    batch_size: int = 32,
    **options: Any,
) -> Fusion:
    """Reconstruct images from both branches of Brain-IT (arXiv 2510.25976).

    The coarse image's latents get the noise of `start_step`, the unCLIP model denoises from there
    under the tokens, and the contrast is pulled towards mid-grey.

    Args:
        unclip: The model.
        tokens: Predicted CLIP tokens [B, T, W].
        coarse: Images of the low-level branch in [0, 1] [B, 3, H, W].
        start_step: Step to start from, of 38 if `steps` is not among the options: a later one keeps
            more of the coarse image.
        contrast: Factor on the distance from mid-grey.
        seeds: One per image.
        refiner: Takes images and seeds: `SDXLRefiner`.
        keep: Whether to return the coarse image's copy and the latents too.
        batch_size: Images sampled at a time.
        **options: Those of `UnCLIP.generate`.

    Returns:
        The final images and the fused ones, and with `keep` what came before them.

    Raises:
        ValueError: If shapes, ranges or the number of seeds do not fit.
    """
    path: list[Tensor] = []

    def record(_: Any, __: int, ___: Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
        path.append(tensors["latents"].cpu())
        return {}

    options |= {"seeds": seeds, "batch_size": batch_size}
    if keep:
        options["on_step_end"] = record
    fused = unclip.generate(tokens, coarse, start_step, contrast=contrast, **options)
    images = fused if refiner is None else refiner(fused, seeds)
    if not keep:
        return Fusion(images, fused)
    parts = coarse.split(batch_size)
    copies = torch.cat([unclip.decode(unclip.encode(part)).cpu() for part in parts])
    return Fusion(images, fused, copies, _join(path, len(parts)))


def _join(path: Sequence[Tensor], batches: int) -> Tensor | None:
    """Latents [B, steps, C, h, w] of the steps of one batch after the other."""
    if not path:
        return None
    steps = len(path) // batches
    return torch.cat(
        [torch.stack(list(path[first : first + steps]), 1) for first in range(0, len(path), steps)]
    )
