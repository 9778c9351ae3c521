"""Learning rate over time: warm-up, then steps down on a plateau, or half a cosine."""

from __future__ import annotations

import math
from typing import Any

from brainit.profile import Training

WARMUP_START = 1e-3
PLATEAU_FACTOR = 0.1


class Schedule:
    """Learning-rate factor over (fractional) epochs: cubic warm-up, then plateau or cosine.

    Brain-IT (arXiv 2510.25976) warms up and then waits for a plateau.

    Attributes:
        state: What a checkpoint keeps of it, ready for JSON.
    """

    def __init__(self, config: Training) -> None:
        self.config = config
        self.state: dict[str, Any] = {"best": None, "stalled": 0, "drops": 0}

    def factor(self, epoch: float) -> float:
        """Factor on the learning rate at a point in time, in epochs from the start."""
        warmup = self.config.warmup_epochs
        if epoch < warmup:
            return WARMUP_START + (1 - WARMUP_START) * (epoch / warmup) ** 3
        if self.config.schedule == "plateau":
            return float(PLATEAU_FACTOR ** self.state["drops"])
        return 0.5 + 0.5 * math.cos(
            math.pi * (epoch - warmup) / max(self.config.epochs - warmup, 1)
        )

    def record(self, score: float) -> None:
        """Take note of an epoch's validation score."""
        if self.state["best"] is None or score > self.state["best"]:
            self.state |= {"best": score, "stalled": 0}
            return
        self.state["stalled"] += 1
        if self.state["stalled"] > self.config.patience:
            self.state |= {"stalled": 0, "drops": self.state["drops"] + 1}
