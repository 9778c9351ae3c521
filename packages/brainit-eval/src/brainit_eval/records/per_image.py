"""Scores of every image, as arrays and as a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brainit_eval.records.labels import check_label, image_id

_KEYS = ("subject", "sample", "image_id")


@dataclass(frozen=True)
class PerImage:
    """Scores of every image; one row per subject, sample and image.

    Attributes:
        subject: ``[rows]`` names.
        sample: ``[rows]`` int64: which generator seed's image.
        image_id: ``[rows]`` ids as text.
        values: Metric name to ``[rows]`` float64. Identification metrics hold the share of
            distractors beaten.
    """

    subject: np.ndarray
    sample: np.ndarray
    image_id: np.ndarray
    values: Mapping[str, np.ndarray]

    def rows(self, subject: str, sample: int) -> np.ndarray:
        """Row numbers of one subject and sample, in the order of the ranks."""
        return np.flatnonzero((self.subject == subject) & (self.sample == sample))

    def by_image(self, subject: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """A subject's image ids, sorted, and each metric's means over the samples, ``[n]``."""
        mine = self.subject == subject
        ids, place = np.unique(self.image_id[mine], return_inverse=True)
        times = np.bincount(place)
        return ids, {k: np.bincount(place, v[mine]) / times for k, v in self.values.items()}

    def write(self, path: Path) -> None:
        """Write the table; numbers keep every bit."""
        columns = [self.subject, self.sample, self.image_id, *self.values.values()]
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*_KEYS, *self.values])
            writer.writerows(zip(*(column.tolist() for column in columns), strict=True))

    @classmethod
    def read(cls, path: Path) -> PerImage:
        """Read a table that `write` made.

        Raises:
            ValueError: If it is no such table.
        """
        try:
            header, *rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
        except (ValueError, csv.Error):  # empty, no UTF-8, no table
            header, rows = [], []
        if tuple(header[:3]) != _KEYS or any(len(row) != len(header) for row in rows) or not rows:
            raise ValueError(f"{path}: expected rows of {', '.join(_KEYS)} and metrics")
        subject, sample, ids, *values = (list(column) for column in zip(*rows, strict=True))
        try:
            return cls(
                np.array([check_label(name, "subject") for name in subject]),
                np.array(sample, dtype=np.int64),
                np.array([image_id(value) for value in ids]),
                {k: np.array(v, dtype=np.float64) for k, v in zip(header[3:], values, strict=True)},
            )
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{path}: {error}") from None
