"""True features made as uncertain as a decoder's, to test and to train what reads them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def corrupt(
    maps: Sequence[Tensor], correlations: float | Sequence[float] | Tensor, seed: int
) -> list[Tensor]:
    """Features that correlate with the true ones as a calibrated decoder's predictions do.

    Within each channel, centred over the batch, the result is r^2 times the true values plus errors
    of r^2 (1 - r^2) times their variance: it correlates at r with the truth over the batch, and the
    truth's best guess from it is the value itself. Errors are the true maps with random phases
    (surrogate data), the same for all channels of a level, less what of the truth is left in them:
    they keep the features' own spatial spectrum and their covariance across channels. Real decoders
    err less on coarse and more on fine structure. Values are then clamped at zero, as those of a
    ReLU are, which changes the correlations a little.

    Args:
        maps: One [B, C, h, w] per level; several images, because they tell the channel's mean.
        correlations: r in [0, 1]: one for all levels, one per level, or [levels, B].
        seed: Of the phases; drawn on the CPU, and so the same on every device.

    Returns:
        Maps of the same shapes.

    Raises:
        ValueError: If a correlation is outside [0, 1] or their number does not fit.
    """
    wanted = torch.as_tensor(correlations, dtype=torch.float32).cpu()
    if not ((wanted >= 0) & (wanted <= 1)).all():
        raise ValueError("correlations: expected values in [0, 1]")
    batch = len(maps[0])
    if wanted.shape not in ((), (len(maps),), (len(maps), batch)):
        expected = f"one, {len(maps)} or [{len(maps)}, {batch}]"
        raise ValueError(f"correlations: expected {expected}, got shape {list(wanted.shape)}")
    if wanted.ndim < 2:
        wanted = wanted.reshape(-1, 1).expand(len(maps), batch)
    generator = torch.Generator().manual_seed(seed)
    return [_corrupt_level(x, r, generator) for x, r in zip(maps, wanted, strict=True)]


def _corrupt_level(x: Tensor, correlations: Tensor, generator: torch.Generator) -> Tensor:
    mean = x.mean((0, 2, 3), keepdim=True)
    white = torch.randn(len(x), 1, *x.shape[2:], generator=generator).to(x)
    spectrum = torch.fft.rfft2(white)
    phases = spectrum / spectrum.abs().clamp(min=torch.finfo(x.dtype).tiny)
    truth = x - mean
    errors = torch.fft.irfft2(torch.fft.rfft2(truth) * phases, s=x.shape[2:])
    power = truth.square().sum().clamp(min=torch.finfo(x.dtype).tiny)
    errors = errors - (errors * truth).sum() / power * truth
    errors = errors * (power / errors.square().sum().clamp(min=torch.finfo(x.dtype).tiny)).sqrt()
    r = correlations.to(x).view(-1, 1, 1, 1)
    predicted: Tensor = mean + r**2 * truth + r * (1 - r**2).sqrt() * errors
    return predicted.clamp(min=0)
