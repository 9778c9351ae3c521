"""One offline page that shows what was seen, what was reconstructed, and how well."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brainit_eval.metrics.registry import Metric, metric_of
from brainit_eval.pages import render
from brainit_eval.pictures.png import data_uri, png, to_image
from brainit_eval.records.writing import write_text
from brainit_eval.report.gallery import Gallery

MAX_BYTES = 15_000_000
_LONGEST = 320


@dataclass(frozen=True)
class Headline:
    """A number at the top: value as text, what it is, and a note in small print."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class ScoreRow:
    """One method in the score table.

    Attributes:
        label: Its name.
        scores: Metric name to ``{"value", "low", "high"}``, as in ``scores.json``.
        note: What it is, in small print.
        control: A control (shuffled brains, say) is set apart and never marked as best.
    """

    label: str
    scores: Mapping[str, Mapping[str, float]]
    note: str = ""
    control: bool = False


@dataclass(frozen=True)
class ScoreTable:
    """Scores of several methods with 95 % intervals.

    Attributes:
        rows: Methods, in order.
        title: Heading.
        caption: What the numbers are over: subjects, images, resamples.
    """

    rows: Sequence[ScoreRow]
    title: str = "Scores"
    caption: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure: PNG bytes, or a matplotlib figure, with its caption.

    Attributes:
        title: Heading.
        caption: What it shows and how to read it.
        image: The content of a PNG file, or a matplotlib figure.
        wide: Whether it takes the full width.
    """

    title: str
    caption: str
    image: Any
    wide: bool = False


@dataclass(frozen=True)
class SettingsBlock:
    """A block of settings or provenance: names and values, a text as it is, or both."""

    title: str
    values: Mapping[str, object] = field(default_factory=dict)
    text: str = ""


@dataclass(frozen=True)
class Report:
    """All that the page says. Empty parts are left out of it.

    Attributes:
        title: Page title.
        subtitle: One or two sentences: whose brains, which images, which data.
        headline: Up to five numbers.
        galleries: Tables of pictures.
        tables: Score tables.
        figures: Figures with captions.
        settings: Configuration, versions, seeds, time per stage.
        reading: "How to read this page": one paragraph per entry, after the standard ones.
        limits: What these results do not show, one sentence per entry.
        footer: Last line.
    """

    title: str
    subtitle: str = ""
    headline: Sequence[Headline] = ()
    galleries: Sequence[Gallery] = ()
    tables: Sequence[ScoreTable] = ()
    figures: Sequence[Figure] = ()
    settings: Sequence[SettingsBlock] = ()
    reading: Sequence[str] = ()
    limits: Sequence[str] = ()
    footer: str = ""


def write_report(path: str | Path, report: Report) -> Path:
    """Write the page: one HTML file with all pictures inside, no script, no request to anywhere.

    Args:
        path: File to write; replaced only once the new one is complete.
        report: What it says. All text is escaped.

    Returns:
        The path.

    Raises:
        ValueError: If a picture is not as stated, or the page would exceed 15 MB.
    """
    page = render_report(report)
    size = len(page.encode())
    if size > MAX_BYTES:
        raise ValueError(f"{path}: the page would take {size / 1e6:.0f} MB; 15 MB are allowed")
    return write_text(path, page)


def render_report(report: Report) -> str:
    """The page as text; `write_report` writes it to a file."""
    return render(
        "brainit_eval.report",
        report=report,
        galleries=[(gallery, _gallery_cells(gallery)) for gallery in report.galleries],
        tables=[_table(table) for table in report.tables],
        figures=[(figure, data_uri(_figure_png(figure))) for figure in report.figures],
    )


def _gallery_cells(gallery: Gallery) -> list[list[str | None]]:
    return [
        [
            data_uri(png(to_image(row.images[column], f"{row.label}, {column}", _LONGEST)))
            if column in row.images
            else None
            for column in gallery.columns
        ]
        for row in gallery.rows
    ]


def _figure_png(figure: Figure) -> bytes:
    if isinstance(figure.image, bytes):
        return figure.image
    if not hasattr(figure.image, "savefig"):
        kind = type(figure.image).__name__
        raise ValueError(f"figure {figure.title!r}: expected PNG bytes or a figure, got {kind}")
    buffer = io.BytesIO()
    figure.image.savefig(buffer, format="png", dpi=150, bbox_inches="tight")
    return buffer.getvalue()


@dataclass(frozen=True)
class _Cell:
    """A score as text, and where its interval lies on the column's own axis in per cent."""

    value: str
    interval: str
    best: bool
    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class _Column:
    metric: Metric
    chance: str
    chance_at: float | None
    cells: list[_Cell | None]


def _table(table: ScoreTable) -> dict[str, Any]:
    names = list(dict.fromkeys(name for row in table.rows for name in row.scores))
    return {"table": table, "columns": [_column(metric_of(name), table.rows) for name in names]}


def _column(metric: Metric, rows: Sequence[ScoreRow]) -> _Column:
    scores = [row.scores.get(metric.name) for row in rows]
    ends = [s[key] for s in scores if s for key in ("value", "low", "high") if s[key] == s[key]]
    ends += [] if metric.chance is None else [metric.chance]
    ends = ends or [0.0]
    low, span = min(ends), max(max(ends) - min(ends), 1e-9)
    rivals = [
        round(s["value"], 3)
        for s, row in zip(scores, rows, strict=True)
        if s and not row.control and s["value"] == s["value"]
    ]
    best = (max if metric.higher_is_better else min)(rivals, default=None)

    def place(value: float) -> float:
        return round(4 + 92 * (value - low) / span, 2)

    def cell(score: Mapping[str, float] | None, row: ScoreRow) -> _Cell | None:
        if not score:
            return None
        value = score["value"]
        return _Cell(
            value=_number(value, metric),
            interval=f"{_number(score['low'], metric)} – {_number(score['high'], metric)}",
            best=not row.control and len(rivals) > 1 and round(value, 3) == best,
            low=place(score["low"]),
            middle=place(value),
            high=place(score["high"]),
        )

    return _Column(
        metric=metric,
        chance="–"
        if metric.chance is None
        else f"{(100 if metric.percent else 1) * metric.chance:g}",
        chance_at=None if metric.chance is None else place(metric.chance),
        cells=[cell(score, row) for score, row in zip(scores, rows, strict=True)],
    )


def _number(value: float, metric: Metric) -> str:
    if value != value:
        return "n/a"
    return f"{100 * value:.1f}" if metric.percent else f"{value:.3f}".replace("-", "−")
