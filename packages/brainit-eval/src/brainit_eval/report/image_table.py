"""Every image's scores as a table that a reader sorts and filters, with small pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from brainit_eval.metrics.registry import Metric
from brainit_eval.pictures.encode import data_uri, jpeg, to_image
from brainit_eval.pictures.sets import Pictures
from brainit_eval.report.scores import number

SHOWN = 40
"""Side of a small picture on the page, in CSS pixels."""

_ACROSS = 32
_FEW = 5000  # up to so many small pictures they are a little sharper than shown


@dataclass(frozen=True)
class ImageTable:
    """One row per subject and image.

    Attributes:
        subject: ``[rows]`` subject of each row.
        image_id: ``[rows]``.
        values: Metrics to ``[rows]`` scores; NaN has no place in an order and comes last.
        pictures: Column title to the pictures of each subject, which hold the ids of its rows.
        category: ``[rows]`` kind of image, or None.
        caption: What the numbers are.
    """

    subject: Sequence[str]
    image_id: Sequence[str]
    values: Sequence[tuple[Metric, np.ndarray]]
    pictures: Mapping[str, Mapping[str, Pictures]]
    category: Sequence[str] | None = None
    caption: str = ""


@dataclass(frozen=True)
class Row:
    """A row as text: places of its small pictures, and per metric text and sort key."""

    thumbs: list[tuple[int, int, int]]
    subject: str
    image_id: str
    category: str
    scores: list[tuple[str, str]]


@dataclass(frozen=True)
class Laid:
    """A table laid out: sheets of small pictures as data URIs, and rows."""

    sheets: list[str]
    across: int
    rows: list[Row]
    means: list[str]


def laid(table: ImageTable) -> Laid:
    """Lay a table out, reading pictures batch by batch.

    Raises:
        ValueError: If a picture cannot be read.
    """
    sets = {id(one): one for column in table.pictures.values() for one in column.values()}
    number_of = {key: k for k, key in enumerate(sets)}
    places = {key: {image: k for k, image in enumerate(one.ids)} for key, one in sets.items()}
    side = SHOWN + 8 if sum(map(len, sets.values())) <= _FEW else SHOWN - 8
    rows = []
    for k, (subject, image_id) in enumerate(zip(table.subject, table.image_id, strict=True)):
        thumbs = []
        for column in table.pictures.values():
            key = id(column[subject])
            y, x = divmod(places[key][image_id], _ACROSS)
            thumbs.append((number_of[key], -SHOWN * x, -SHOWN * y))
        category = "" if table.category is None else table.category[k]
        scores = [_cell(float(values[k]), metric) for metric, values in table.values]
        rows.append(Row(thumbs, subject, image_id, category, scores))
    means = [number(float(np.nanmean(values)), metric) for metric, values in table.values]
    return Laid([_sheet(one, side) for one in sets.values()], _ACROSS, rows, means)


def _cell(value: float, metric: Metric) -> tuple[str, str]:
    return number(value, metric), "" if math.isnan(value) else f"{value:.9g}"


def _sheet(pictures: Pictures, side: int) -> str:
    """All pictures of a set, small, on one sheet: one file is far less than a thousand."""
    down = math.ceil(len(pictures) / _ACROSS)
    sheet = Image.new("RGB", (_ACROSS * side, down * side), "white")
    for place in range(len(pictures)):
        picture = pictures.batch(range(place, place + 1))[0]
        small = to_image(picture, f"{pictures.name}: {pictures.ids[place]}")
        small = small.resize((side, side), Image.Resampling.LANCZOS)
        y, x = divmod(place, _ACROSS)
        sheet.paste(small, (x * side, y * side))
    return data_uri(jpeg(sheet, quality=72))
