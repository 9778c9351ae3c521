"""Settings of an inversion, and the presets that measurements chose."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from math import cos, inf, pi
from typing import Any, Literal

import torch

from brainit_dip.precision import multiplies_bfloat16
from brainit_dip.skip_network import SkipConfig


@dataclass(frozen=True)
class InversionConfig:
    """How images are found; the defaults are those of Brain-IT (arXiv 2510.25976).

    Attributes:
        image_size: Side in pixels of the noise and of the image, a multiple of 2^scales; None is
            the side of the images that the VGG sees.
        network: Size of the skip network; None optimises the pixels directly.
        steps: Optimiser steps.
        lr: Learning rate of Adam.
        schedule: "constant", or "cosine" from `lr` to zero.
        noise: The fixed input is uniform in [0, noise].
        jitter: Standard deviation of the normal noise added to the input anew at each step.
        average_decay: The answer is the running average of the outputs with this decay per step,
            bias-corrected: the weights of the outputs sum to one after any number of steps.
        level_weights: Weights of the levels' losses, normalised to sum to one; None is the mean.
        total_variation: Weight of the image's total variation beside the loss of the features.
        stop_window: Early stopping, per image: every so many steps an image whose mean loss over
            the window is less than `stop_tolerance` (relative) below that over the window before
            keeps its answer and leaves the batch. None never stops early.
        stop_tolerance: See `stop_window`.
        precision: "bfloat16" runs network and VGG under autocast, and so does "auto" where the
            device has instructions for it (`multiplies_bfloat16`); elsewhere it is "float32".
        channels_last: Lay pixels out channels-last in the VGG, and in the network of a lone image.
        cuda_graph: On CUDA, record a step once and replay it: for small images launching kernels
            takes longer than running them. Without effect on a CPU.
        batch_size: Images optimised side by side; changes time and memory, not the images.
    """

    image_size: int | None = 224
    network: SkipConfig | None = field(default_factory=SkipConfig)
    steps: int = 1800
    lr: float = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    noise: float = 0.1
    jitter: float = 1 / 30
    average_decay: float = 0.99
    level_weights: tuple[float, ...] | None = None
    total_variation: float = 0.0
    stop_window: int | None = None
    stop_tolerance: float = 0.01
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    channels_last: bool = False
    cuda_graph: bool = False
    batch_size: int = 1

    def __post_init__(self) -> None:
        """Raise ValueError for settings out of range."""
        for name in ("image_size", "steps", "lr", "stop_window", "batch_size"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}: expected a value above zero, got {value}")
        for name in ("noise", "jitter", "total_variation", "stop_tolerance"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: expected zero or more, got {getattr(self, name)}")
        if not 0 <= self.average_decay < 1:
            raise ValueError(f"average_decay: expected [0, 1), got {self.average_decay}")
        if self.schedule not in ("constant", "cosine"):
            raise ValueError(f"schedule: expected constant or cosine, got {self.schedule!r}")
        if self.precision not in ("auto", "float32", "bfloat16"):
            known = "auto, float32 or bfloat16"
            raise ValueError(f"precision: expected {known}, got {self.precision!r}")
        weights = self.level_weights
        if weights is not None and (min(weights, default=-1) < 0 or not 0 < sum(weights) < inf):
            raise ValueError(f"level_weights: expected zeros or more, not all zero, got {weights}")

    @classmethod
    def named(cls, name: str, **changes: Any) -> InversionConfig:
        """The preset of a name, with some settings changed.

        Raises:
            ValueError: If there is no such preset or setting.
        """
        if name not in PRESETS:
            raise ValueError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}")
        if unknown := set(changes) - {one.name for one in fields(cls)}:
            raise ValueError(f"{min(unknown)}: an inversion has no such setting")
        return cls(**{**PRESETS[name], **changes})

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        if self.schedule == "constant":
            return self.lr
        return self.lr * (1 + cos(pi * step / self.steps)) / 2

    def in_bfloat16(self, device: torch.device) -> bool:
        """Whether a device computes in bfloat16."""
        if self.precision == "auto":
            return multiplies_bfloat16(device)
        return self.precision == "bfloat16"


_LEAN: dict[str, Any] = {
    "precision": "auto",
    "channels_last": True,
    "cuda_graph": True,
}

PRESETS: dict[str, dict[str, Any]] = {
    # The published settings.
    "reference": {},
    # The same in bfloat16, laid out and recorded for speed.
    "quality": _LEAN,
    # The published network and size in fewer, larger steps with less jitter, which end small.
    "fast": {**_LEAN, "steps": 800, "lr": 2e-3, "schedule": "cosine", "jitter": 0.01},
    # A short run from a given start, such as an `Inverter`'s images.
    "warm": {
        **_LEAN,
        "image_size": None,
        "steps": 60,
        "schedule": "cosine",
        "average_decay": 0.9,
        "jitter": 0.01,
    },
    # Baseline without a network: the pixels themselves under total variation, after Mahendran and
    # Vedaldi (arXiv 1412.0035), with Adam and a sigmoid that keeps pixels in range.
    "pixels": {
        **_LEAN,
        "image_size": None,
        "schedule": "cosine",
        "network": None,
        "steps": 300,
        "lr": 0.05,
        "jitter": 0.0,
        "average_decay": 0.9,
        "total_variation": 0.1,
    },
    # For a quarter-width VGG at 64 px: a coarse image of 32 px in 100 short steps. Jitter is a
    # third of the published one: in so few steps the full jitter hides the fixed input.
    "tiny": {
        "image_size": 32,
        "network": SkipConfig(16, (32, 32, 32), (32, 32, 32), (4, 4, 4)),
        "steps": 100,
        "lr": 1e-2,
        "schedule": "cosine",
        "jitter": 0.01,
        "average_decay": 0.9,
        "batch_size": 8,
    },
}
"""What each preset changes of the published settings, which are the defaults."""
