"""One offline page that shows what was seen, what was reconstructed, and how well."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from brainit_eval.pages import render
from brainit_eval.pictures.encode import Picture, data_uri, jpeg, png, to_image
from brainit_eval.records.writing import write_text
from brainit_eval.report.controls import Controls
from brainit_eval.report.gallery import Gallery
from brainit_eval.report.image_table import ImageTable, laid
from brainit_eval.report.plots import Plot, drawn
from brainit_eval.report.scores import ScoreTable, score_columns

MAX_BYTES = 15_000_000
_LONGEST = 320
_LOSSLESS = 128  # larger pictures are photographs: JPEG takes a fifth of PNG there
_DIRECTIONS = {
    "reconstruction_fixed": "The reconstruction is fixed, the distractors are all other true "
    "images.",
    "image_fixed": "Where the protocol asks for the transpose, the image is fixed and the "
    "distractors are all other reconstructions.",
}


@dataclass(frozen=True)
class Headline:
    """A number at the top: value as text, what it is, and a note in small print."""

    label: str
    value: str
    note: str = ""


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
        warnings: What a reader must know before all else, one sentence per entry.
        plots: Dot plots.
        controls: What the controls say.
        images: Every image's scores; the page then holds a script that sorts and filters them.
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
    warnings: Sequence[str] = ()
    plots: Sequence[Plot] = ()
    controls: Controls | None = None
    images: ImageTable | None = None


def write_report(path: str | Path, report: Report) -> Path:
    """Write the page: one HTML file with all pictures inside, no request to anywhere.

    It runs no script but the one that sorts and filters `Report.images`, if there are any: the
    page's own policy names it by its hash.

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
    script = resources.files("brainit_eval.report").joinpath("sort.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    fixed = {direction for table in report.tables for direction in table.directions}
    return render(
        "brainit_eval.report",
        report=report,
        galleries=[(gallery, _gallery_cells(gallery)) for gallery in report.galleries],
        tables=[{"table": table, "columns": score_columns(table)} for table in report.tables],
        directions=[text for direction, text in _DIRECTIONS.items() if direction in fixed],
        plots=[(plot, [drawn(panel) for panel in plot.panels]) for plot in report.plots],
        images=None if report.images is None else laid(report.images),
        figures=[(figure, data_uri(_figure_png(figure))) for figure in report.figures],
        script=script,
        script_hash=f"sha256-{digest}",
    )


def _gallery_cells(gallery: Gallery) -> list[list[str | None]]:
    return [
        [
            _picture(row.images[column], f"{row.label}, {column}") if column in row.images else None
            for column in gallery.columns
        ]
        for row in gallery.rows
    ]


def _picture(picture: Picture, name: str) -> str:
    image = to_image(picture, name, _LONGEST)
    return data_uri(png(image) if max(image.size) <= _LOSSLESS else jpeg(image, quality=92))


def _figure_png(figure: Figure) -> bytes:
    if isinstance(figure.image, bytes):
        return figure.image
    if not hasattr(figure.image, "savefig"):
        kind = type(figure.image).__name__
        raise ValueError(f"figure {figure.title!r}: expected PNG bytes or a figure, got {kind}")
    buffer = io.BytesIO()
    figure.image.savefig(buffer, format="png", dpi=150, bbox_inches="tight")
    return buffer.getvalue()
