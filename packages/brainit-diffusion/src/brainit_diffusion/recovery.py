"""Recovery: images made again from their own CLIP tokens, a bound on any decoder's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from brainit_diffusion.clip_tokens import ClipTokens
from brainit_diffusion.fusion import fuse
from brainit_diffusion.unclip import UnCLIP


@dataclass(frozen=True)
class Recovery:
    """Images [B, 3, S, S] in [0, 1], float32 on the CPU.

    Attributes:
        from_tokens: Made of the true tokens alone.
        fused: Made of them and of coarse images; None without any.
    """

    from_tokens: Tensor
    fused: Tensor | None = None


def recover(
    unclip: UnCLIP,
    clip: ClipTokens,
    images: Tensor,
    coarse: Tensor | None = None,
    start_step: int = 14,
    *,
    seeds: Sequence[int],
    batch_size: int = 32,
    contrast: float = 1.0,
    **options: Any,
) -> Recovery:
    """Make images again from their true tokens: a bound on what predicted ones can reach.

    What is lost here, no brain decoder can bring back: compare its scores with those of these.

    Args:
        unclip: The generator.
        clip: The model whose tokens it was trained on, with the same conventions.
        images: What was seen, in [0, 1] [B, 3, H, W].
        coarse: Coarse images to start from as well, in [0, 1] [B, 3, H, W]: those that a low-level
            branch predicts, or `images` for the best of all.
        start_step: Step to start from with `coarse`, of 38 if `steps` is not among the options.
        seeds: One per image; the same in both ways.
        batch_size: Images at a time.
        contrast: Factor on the distance from mid-grey, in both ways; none as it is.
        **options: Those of `UnCLIP.generate`.

    Returns:
        The images, without and with the coarse ones.

    Raises:
        ValueError: If shapes, ranges, the tokens' width or the number of seeds do not fit.
    """
    options |= {"seeds": seeds, "batch_size": batch_size, "contrast": contrast}
    tokens = clip.encode(images, batch_size)
    alone = unclip.generate(tokens, **options)
    if coarse is None:
        return Recovery(alone)
    return Recovery(alone, fuse(unclip, tokens, coarse, start_step, **options).images)
