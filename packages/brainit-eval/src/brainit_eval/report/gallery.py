"""Rows of seen and reconstructed images: chosen by a rule, shown on a page or as one PNG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from brainit_eval.pictures.encode import Picture, to_image
from brainit_eval.records.numbers import real
from brainit_eval.records.writing import replacing

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_INK, _MUTED, _PAPER = "#1b2430", "#66717f", "#ffffff"


@dataclass(frozen=True)
class GalleryRow:
    """One test image and what each method made of it.

    Attributes:
        label: What stands at its left: ``best``, ``median`` ...
        images: Column name to picture: ``[3, H, W]`` in [0, 1] or uint8 ``[H, W, 3]``. A column
            that is missing stays empty.
        note: Small print below the label: subject, image, score; line breaks are kept.
    """

    label: str
    images: Mapping[str, Picture]
    note: str = ""


@dataclass(frozen=True)
class Gallery:
    """A table of pictures.

    Attributes:
        columns: Column names in order; the first is what was seen.
        rows: One per test image.
        title: Heading.
        rule: How the rows were chosen, one sentence.
        notes: Column name to a short explanation under it.
    """

    columns: Sequence[str]
    rows: Sequence[GalleryRow]
    title: str = "Seen and reconstructed"
    rule: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse an empty gallery and pictures in columns that it does not have."""
        if not self.columns or not self.rows:
            raise ValueError(f"gallery {self.title!r}: expected columns and rows, got none")
        for row in self.rows:
            unknown = sorted(set(row.images) - set(self.columns))
            if unknown:
                raise ValueError(f"gallery row {row.label!r}: no column named {unknown[0]!r}")


def choose_rows(
    values: ArrayLike, n_rows: int = 5, higher_is_better: bool = True
) -> list[tuple[int, str]]:
    """Choose rows evenly from the best to the worst, both ends and the median included.

    Args:
        values: The score that ranks them, ``[n]``.
        n_rows: Rows wanted: odd and 3 or more, so that the median is one of them.
        higher_is_better: Direction of the score.

    Returns:
        Index and label of each row, best first: ``best``, ``top 25 %``, ``median``,
        ``bottom 25 %``, ``worst``. Equal values keep their order.

    Raises:
        ValueError: If ``n_rows`` is not as stated or above ``n``, or a value is NaN.
    """
    scores = real(values, "values", finite=False)
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise ValueError(f"values: expected finite [n], got shape {list(scores.shape)}")
    if n_rows < 3 or n_rows % 2 == 0 or n_rows > scores.size:
        raise ValueError(f"n_rows: expected an odd number from 3 to {scores.size}, got {n_rows}")
    order = np.argsort(-scores if higher_is_better else scores, kind="stable")
    places = np.linspace(0, scores.size - 1, n_rows)
    return [
        (int(order[int(place + 0.5)]), _label(step / (n_rows - 1)))
        for step, place in enumerate(places)
    ]


def write_gallery(gallery: Gallery, path: str | Path, size: int = 144, labels: bool = True) -> Path:
    """Write the gallery as one PNG (a contact sheet for a README).

    Args:
        gallery: What to draw.
        path: File to write; replaced only once the new one is complete.
        size: Side of each picture in pixels.
        labels: Whether row labels stand at the left.

    Returns:
        The path.
    """
    sheet = _draw_sheet(gallery, size, labels)
    with replacing(path) as part:
        sheet.save(part, format="PNG", optimize=True)
    return Path(path)


def _label(share: float) -> str:
    fixed = {0.0: "best", 0.5: "median", 1.0: "worst"}
    if share in fixed:
        return fixed[share]
    end = f"top {100 * share:.0f}" if share < 0.5 else f"bottom {100 - 100 * share:.0f}"
    return f"{end} %"


def _draw_sheet(gallery: Gallery, size: int, labels: bool) -> Image.Image:
    gap, header = max(6, size // 18), max(28, size // 4)
    title = ImageFont.load_default(max(12, size // 9))
    small = ImageFont.load_default(max(10, size // 12))
    left = _label_width(gallery, title, small) + gap if labels else 0
    width = left + len(gallery.columns) * (size + gap) + gap
    height = header + len(gallery.rows) * (size + gap) + gap // 2
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for c, column in enumerate(gallery.columns):
        x = left + gap + c * (size + gap)
        draw.text((x + size / 2, header / 2), column, _INK, title, anchor="mm")
        for r, row in enumerate(gallery.rows):
            if column in row.images:
                picture = to_image(row.images[column], f"{row.label}, {column}")
                tile = picture.resize((size, size), Image.Resampling.LANCZOS)
                sheet.paste(tile, (x, header + r * (size + gap)))
    for r, row in enumerate(gallery.rows if labels else ()):
        x, y = gap, header + r * (size + gap) + size / 2
        draw.text((x, y), row.label, _INK, title, anchor="ld")
        draw.multiline_text((x, y + size / 24), row.note, _MUTED, small)
    return sheet


def _label_width(gallery: Gallery, title: _Font, small: _Font) -> int:
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    boxes = [draw.textbbox((0, 0), row.label, title) for row in gallery.rows]
    boxes += [draw.multiline_textbbox((0, 0), row.note, small) for row in gallery.rows]
    return math.ceil(max(box[2] for box in boxes))
