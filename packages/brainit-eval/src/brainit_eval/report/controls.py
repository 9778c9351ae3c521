"""What `brainit-eval controls` wrote, as a table: green and red, one column a subject."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from brainit_eval.records.fields import Fields, read_json
from brainit_eval.records.labels import check_label, image_id
from brainit_eval.statistics.readings import Reading


@dataclass(frozen=True)
class Controls:
    """Readings of every subject.

    Attributes:
        readings: Subject to its readings.
        image_ids: Subject to the images behind them.
        features: What identification was by.
    """

    readings: Mapping[str, Sequence[Reading]]
    image_ids: Mapping[str, Sequence[str]]
    features: str

    @classmethod
    def read(cls, path: str | Path) -> Controls:
        """Read the file.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is no file of controls; the line says where.
        """
        record = Fields(read_json(Path(path)), str(path))
        record.integer("schema", 1, 1)
        record.text("brainit_eval")
        for name in ("n_bootstrap", "seed"):
            record.integer(name, 0, 2**63)
        subjects = record.table("subjects")
        readings, ids = {}, {}
        for name in subjects.names():
            one = subjects.table(check_label(name, f"{path}: subject"))
            readings[name] = [Reading.parse(table) for table in one.tables("readings")]
            ids[name] = [image_id(v, one.where) for v in one.table("per_image").texts("image_id")]
            one.integer("n_images", len(ids[name]), len(ids[name]))
            one.close()
        controls = cls(readings, ids, record.text("features"))
        record.close()
        return controls

    def rows(self) -> list[tuple[str, str, list[tuple[str, str, bool] | None]]]:
        """Per reading its title, its rule, and per subject value, interval and whether green."""
        by_name = [{r.name: r for r in each} for each in self.readings.values()]
        names = dict.fromkeys(name for each in by_name for name in each)
        rows = []
        for name in names:
            found = [each.get(name) for each in by_name]
            titles = {reading.title for reading in found if reading}
            title = titles.pop() if len(titles) == 1 else name.replace("_", " ")
            rule = next(reading.rule for reading in found if reading)
            rows.append((title, rule, [_cell(reading) for reading in found]))
        return rows


def _cell(reading: Reading | None) -> tuple[str, str, bool] | None:
    if reading is None:
        return None
    interval = ""
    if not math.isnan(reading.low):
        interval = f"{_text(reading.low)} – {_text(reading.high)}"
    return _text(reading.value), interval, reading.green


def _text(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.3f}".replace("-", "−")
