"""Dot plots of means with their intervals: by subject, by kind of image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from brainit_eval.metrics.registry import Metric
from brainit_eval.report.scores import number


@dataclass(frozen=True)
class Dot:
    """A mean.

    Attributes:
        label: Of what: a subject, a category.
        value: The mean.
        low: Lower end of its 95 % interval; NaN for none.
        high: Upper end.
        marked: Whether it stands out, as the caption of the plot says.
    """

    label: str
    value: float
    low: float
    high: float
    marked: bool = False


@dataclass(frozen=True)
class Panel:
    """One metric's dots on one axis, with a line at the mean over all."""

    metric: Metric
    dots: Sequence[Dot]
    overall: float


@dataclass(frozen=True)
class Plot:
    """Panels under one title; the caption says what dots and lines are."""

    title: str
    caption: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Drawn:
    """A panel with places in per cent of its width: dots as (label, text, marked, x, low, high)."""

    metric: Metric
    rows: list[tuple[str, str, bool, float, float, float]]
    overall: float
    ticks: list[tuple[float, str]]


def drawn(panel: Panel) -> Drawn:
    """Lay a panel out."""
    metric = panel.metric
    ends = [v for dot in panel.dots for v in (dot.low, dot.value, dot.high) if not math.isnan(v)]
    ticks = _ticks(min([*ends, panel.overall]), max([*ends, panel.overall]))
    low, high = (min([*ends, ticks[0]]), max([*ends, ticks[-1]]))

    def place(value: float) -> float:
        return round(4 + 92 * (value - low) / (high - low), 2)

    return Drawn(
        metric,
        [
            (
                dot.label,
                number(dot.value, metric),
                dot.marked,
                place(dot.value),
                place(dot.value if math.isnan(dot.low) else dot.low),
                place(dot.value if math.isnan(dot.high) else dot.high),
            )
            for dot in panel.dots
        ],
        place(panel.overall),
        [(place(tick), f"{(100 if metric.percent else 1) * tick:.4g}") for tick in ticks],
    )


def _ticks(low: float, high: float) -> list[float]:
    """Two to five round numbers that span the values or nearly so."""
    span = max(high - low, 1e-6)
    power = 10.0 ** math.floor(math.log10(span))
    step = next(k * power for k in (0.5, 1.0, 2.0, 5.0) if span / (k * power) <= 3)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 9) for k in range(first, max(last, first + 1) + 1)]
