"""How near answers come to the photographs, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity
from torch import Tensor

from brainit_dip import VGGFeatures
from brainit_dip.objective import Objective

SCORES = ("feature_loss", "pixcorr", "ssim")


@torch.no_grad()
def scores(
    answers: Tensor, truth: Tensor, vgg: VGGFeatures, maps: Sequence[Tensor]
) -> dict[str, float]:
    """Feature loss to `maps` in float32, PixCorr and SSIM at the truth's size; means."""
    loss = Objective([x.to(vgg.mean) for x in maps])(vgg(answers.to(vgg.mean))).mean()
    sides = tuple(truth.shape[2:])
    large = F.interpolate(answers.float().cpu(), sides, mode="bicubic", antialias=True).clamp(0, 1)
    pairs = [(a.numpy(), b.numpy()) for a, b in zip(large, truth.cpu(), strict=True)]
    means = [np.mean([score(*pair) for pair in pairs]) for score in (_pixcorr, _ssim)]
    values = (float(loss), *means)
    return {name: round(float(v), 4) for name, v in zip(SCORES, values, strict=True)}


def agreement(found: Sequence[Tensor], maps: Sequence[Tensor]) -> list[float]:
    """Correlation of each level's values, channels centred over the images."""
    levels = zip(found, maps, strict=True)
    centred = [[x - x.mean((0, 2, 3), keepdim=True) for x in pair] for pair in levels]
    return [round(float(F.cosine_similarity(a.ravel(), b.ravel(), 0)), 3) for a, b in centred]


def seconds(call: Callable[[], object], device: torch.device | str) -> float:
    """Wall-clock time of a call, with what it left running on the device."""
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - start


def peak_bytes(call: Callable[[], object], device: str) -> int:
    """Most bytes of tensors that a call holds at once beyond what was there before it."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(profile_memory=True) as profile:
        call()
    events = profile.profiler.kineto_results.events()
    held = peak = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def _pixcorr(a: np.ndarray, b: np.ndarray) -> float:
    flat = np.ptp(a) == 0 or np.ptp(b) == 0
    return 0.0 if flat else float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def _ssim(a: np.ndarray, b: np.ndarray) -> float:
    a, b = (rgb2gray(x, channel_axis=0) for x in (a, b))
    return structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0
    )


def _wait(device: torch.device | str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
