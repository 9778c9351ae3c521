"""Inversions against the clock: what an image takes, and who reaches a feature loss first."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from _scores import SCORES, scores, seconds
from torch import Tensor

from brainit_dip import InversionConfig, Progress, VGGFeatures, invert

POINTS = 20


class Curve:
    """A callback that keeps the answers of some steps and when they were there."""

    def __init__(self, steps: int) -> None:
        self.wanted = {max(1, round(steps * (i + 1) / POINTS)) for i in range(POINTS)}
        self.points: list[tuple[float, Tensor]] = []
        self.start = time.perf_counter()

    def __call__(self, progress: Progress) -> None:
        """Keep the answer if this step is one of them."""
        if progress.step in self.wanted:
            answer = progress.images.cpu()
            self.points.append((time.perf_counter() - self.start, answer))


def run(
    maps: Sequence[Tensor],
    truth: Tensor,
    vgg: VGGFeatures,
    config: InversionConfig,
    start: Tensor | None = None,
    timed: int = 2,
) -> tuple[dict[str, object], Tensor]:
    """Seconds of one image by itself, scores of all side by side and their curve; and the answers.

    An image side by side with others is the image alone, but for rounding. The time is the mean of
    so many (`timed`) runs of the first image.
    """

    def some(rows: slice, config: InversionConfig, curve: Curve | None = None) -> Tensor:
        begun = None if start is None else start[rows]
        config = replace(config, batch_size=rows.stop)
        found = invert([x[rows] for x in maps], vgg, config, start=begun, callback=curve)
        return found.images.cpu()

    first, everything = slice(0, 1), slice(0, len(truth))
    some(first, replace(config, steps=5))  # libraries choose their kernels
    clocks, times = [], []
    for _ in range(timed):
        clocks.append(Curve(config.steps))
        begin = partial(some, first, config, clocks[-1])
        times.append(seconds(begin, vgg.mean.device))
    curve = Curve(config.steps)
    answers = some(everything, config, curve)
    points = []
    for answer, *moments in zip(curve.points, *(clock.points for clock in clocks), strict=True):
        when = statistics.mean(moment for moment, _ in moments)
        points.append({"seconds": round(when, 3), **scores(answer[1], truth, vgg, maps)})
    figures = {"seconds": round(statistics.mean(times), 4), "steps": config.steps}
    return {**figures, **scores(answers, truth, vgg, maps), "curve": points}, answers


def race(reference: dict[str, object], ours: dict[str, object]) -> dict[str, float]:
    """Both up to the feature loss that both reach, the higher of their last ones.

    It is the reference's last where ours comes as low, and ours where it does not. Moments between
    two points of a curve lie on a straight line.
    """
    loss = max(reference["feature_loss"], ours["feature_loss"])
    there = {"reference": _at(reference["curve"], loss), "ours": _at(ours["curve"], loss)}
    speedup = there["reference"]["seconds"] / there["ours"]["seconds"]
    flat = {f"{who}_{k}": round(v, 4) for who, at in there.items() for k, v in at.items()}
    return {"feature_loss": loss, "speedup": round(speedup, 2), **flat}


def _at(curve: list[dict[str, float]], loss: float) -> dict[str, float]:
    """Seconds and scores where a curve first comes down to a loss, or where it ends."""
    names = ("seconds", *SCORES[1:])
    for before, after in zip([curve[0], *curve], curve, strict=False):
        if after["feature_loss"] <= loss:
            fall = before["feature_loss"] - after["feature_loss"]
            part = (before["feature_loss"] - loss) / fall if fall > 0 else 1.0
            return {k: before[k] + part * (after[k] - before[k]) for k in names}
    return {k: curve[-1][k] for k in names}
