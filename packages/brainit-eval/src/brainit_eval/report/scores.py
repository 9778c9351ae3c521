"""The score table: methods, metrics, intervals, each column on its own axis."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from brainit_eval.metrics.registry import Metric, metric_of


@dataclass(frozen=True)
class ScoreRow:
    """One method in the score table.

    Attributes:
        label: Its name.
        scores: Metric name to ``{"value", "low", "high"}``, as in ``scores.json``; a number without
            an interval has its value only.
        note: What it is, in small print.
        control: A control (shuffled brains, say) is set apart and never marked as best.
        own: Whether the page is about this one.
        unsure: Metrics whose number is marked with †.
        footnotes: What else to know; the same words in several rows are one footnote.
    """

    label: str
    scores: Mapping[str, Mapping[str, float]]
    note: str = ""
    control: bool = False
    own: bool = False
    unsure: Collection[str] = ()
    footnotes: Sequence[str] = ()


@dataclass(frozen=True)
class ScoreTable:
    """Scores of several methods with 95 % intervals.

    Attributes:
        rows: Methods, in order.
        title: Heading.
        caption: What the numbers are over: subjects, images, resamples.
        metrics: Metrics of the columns by name, in order; else those of the rows, as
            `metric_of` knows them.
        key: Explanations below the table, after the standard ones.
        left_out: What is not shown, and why.
        directions: What is fixed in its two-way scores: see `Identification`.
    """

    rows: Sequence[ScoreRow]
    title: str = "Scores"
    caption: str = ""
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    key: Sequence[str] = ()
    left_out: Sequence[tuple[str, str]] = ()
    directions: Collection[str] = ("reconstruction_fixed",)

    @property
    def footnotes(self) -> list[str]:
        """Those of all rows, each once, in order."""
        return list(dict.fromkeys(note for row in self.rows for note in row.footnotes))


@dataclass(frozen=True)
class Cell:
    """A score as text, and where its interval lies on the column's own axis in per cent."""

    value: str
    interval: str
    best: bool
    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Column:
    """A metric's cells, one a row, and where chance lies."""

    metric: Metric
    chance: str
    chance_at: float | None
    cells: list[Cell | None]


def score_columns(table: ScoreTable) -> list[Column]:
    """The table by columns, ready to be drawn.

    Raises:
        ValueError: If a metric is not known.
    """
    names = list(dict.fromkeys(name for row in table.rows for name in row.scores))
    metrics = table.metrics or {name: metric_of(name) for name in names}
    return [_column(name, metric, table.rows) for name, metric in metrics.items()]


def number(value: float, metric: Metric) -> str:
    """A score as text."""
    if math.isnan(value):
        return "n/a"
    text = f"{100 * value:.1f}" if metric.percent else f"{value:.3f}"
    return text.replace("-", "−")


def _column(name: str, metric: Metric, rows: Sequence[ScoreRow]) -> Column:
    scores = [row.scores.get(name) for row in rows]
    ends = [value for s in scores if s for value in _ends(s) if not math.isnan(value)]
    ends += [] if metric.chance is None else [metric.chance]
    ends = ends or [0.0]
    low, span = min(ends), max(max(ends) - min(ends), 1e-9)
    rivals = [
        round(s["value"], 3)
        for s, row in zip(scores, rows, strict=True)
        if s and not row.control and not math.isnan(s["value"])
    ]
    best = (max if metric.higher_is_better else min)(rivals, default=None)

    def place(value: float) -> float:
        return round(4 + 92 * (value - low) / span, 2)

    def cell(score: Mapping[str, float] | None, row: ScoreRow) -> Cell | None:
        if not score:
            return None
        start, value, end = _ends(score)
        known = not math.isnan(start)
        return Cell(
            value=number(value, metric) + (" †" if name in row.unsure else ""),
            interval=f"{number(start, metric)} – {number(end, metric)}" if known else "",
            best=not row.control and len(rivals) > 1 and round(value, 3) == best,
            low=place(start if known else value),
            middle=place(value),
            high=place(end if known else value),
        )

    return Column(
        metric=metric,
        chance="–"
        if metric.chance is None
        else f"{(100 if metric.percent else 1) * metric.chance:g}",
        chance_at=None if metric.chance is None else place(metric.chance),
        cells=[cell(score, row) for score, row in zip(scores, rows, strict=True)],
    )


def _ends(score: Mapping[str, float]) -> tuple[float, float, float]:
    return score.get("low", math.nan), score["value"], score.get("high", math.nan)
