"""Published results as data: each number with where it was read and how sure that is.

One TOML file a paper. A number that could not be confirmed is left out, never guessed. A row
without protocol or test set is kept for the record, and no board shows it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from brainit_eval.protocol import Protocol, frozen_protocols
from brainit_eval.records.fields import Fields, read_toml
from brainit_eval.records.labels import check_label

CONFIDENCE = {
    "paper": "read in the paper's full text",
    "documentation": "read in the documentation of another project",
    "note": "read in a third party's note; not independently confirmed",
}
HUMAN = "human-2afc"
"""Protocol of rows that hold shares of human choices."""


@dataclass(frozen=True)
class Number:
    """A published number: its value, where it was read, and one of `CONFIDENCE`."""

    value: float
    source: str
    confidence: str


@dataclass(frozen=True)
class PublishedRow:
    """One row of a paper's table.

    Attributes:
        method: Name.
        paper: Paper that printed it, which may have recomputed another paper's method.
        citation: That paper.
        hours: Hours (sessions) of a subject's data trained on; None if not stated.
        protocol: Name of the frozen protocol it follows, `HUMAN`, or None if not stated.
        test_set: Name of its test set; None if not stated.
        n_images: Images in it; None if not stated.
        subjects: Whose mean the scores are.
        note: What else to know.
        scores: Metric to number.
        per_subject: Subject, then metric, to number.
    """

    method: str
    paper: str
    citation: str
    hours: float | None
    protocol: str | None
    test_set: str | None
    n_images: int | None
    subjects: tuple[str, ...]
    note: str
    scores: Mapping[str, Number]
    per_subject: Mapping[str, Mapping[str, Number]]


def load_published(folder: str | Path | None = None) -> tuple[PublishedRow, ...]:
    """Load and check all published results.

    Args:
        folder: A folder of such TOML files; None for those of the package.

    Raises:
        FileNotFoundError: If there are none.
        ValueError: If a file is not as stated; the line says where.
    """
    shipped = Path(str(resources.files("brainit_eval.leaderboard"))) / "published"
    home = shipped if folder is None else Path(folder)
    files = sorted(home.glob("*.toml"))
    if not files:
        raise FileNotFoundError(f"{home}: no published results (*.toml)")
    return tuple(row for path in files for row in _paper(path))


def _paper(path: Path) -> list[PublishedRow]:
    fields = Fields(read_toml(path), str(path))
    paper, citation = fields.text("paper"), fields.text("citation")
    rows = [_row(row, paper, citation) for row in fields.tables("row")]
    fields.close()
    return rows


def _row(fields: Fields, paper: str, citation: str) -> PublishedRow:
    protocol = fields.text("protocol") if "protocol" in fields else None
    origin = fields.text("source"), fields.text("confidence", tuple(CONFIDENCE))
    known = _metrics(protocol, fields.where)
    subjects = fields.table("per_subject") if "per_subject" in fields else Fields({}, "")
    row = PublishedRow(
        method=fields.text("method"),
        paper=paper,
        citation=citation,
        hours=fields.number("hours") if "hours" in fields else None,
        protocol=protocol,
        test_set=check_label(fields.text("test_set"), fields.where)
        if "test_set" in fields
        else None,
        n_images=fields.integer("n_images", 2, 10**6) if "n_images" in fields else None,
        subjects=fields.texts("subjects") if "subjects" in fields else (),
        note=fields.text("note") if "note" in fields else "",
        scores=_scores(fields.table("scores"), origin, known),
        per_subject={
            name: _scores(subjects.table(name), origin, known) for name in subjects.names()
        },
    )
    fields.close()
    if not row.scores or not set(row.per_subject) <= set(row.subjects):
        raise ValueError(f"{fields.where}: expected scores, and per_subject only of its subjects")
    if protocol is not None and not (row.test_set and row.n_images and row.subjects):
        raise ValueError(f"{fields.where}: a protocol needs test_set, n_images and subjects")
    return row


def _metrics(protocol: str | None, where: str) -> set[str]:
    """The metrics a row may have: its protocol's, or any protocol's if it states none."""
    if protocol == HUMAN:
        return {"human_own_over_random", "human_refined_over_unrefined"}
    names = frozen_protocols()
    if protocol not in (None, *names):
        raise ValueError(f"{where}: protocol: expected one of {', '.join(names)}, got {protocol!r}")
    return {
        metric
        for name in ([protocol] if protocol else names)
        for metric in Protocol.load(name).metrics
    }


def _scores(fields: Fields, origin: tuple[str, str], known: set[str]) -> dict[str, Number]:
    scores = {}
    for name in fields.names():
        if name not in known:
            raise ValueError(f"{fields.where}: no metric {name!r} in its protocol")
        value, (source, confidence) = fields.raw(name), origin
        if isinstance(value, dict):
            own = Fields(value, f"{fields.where}: {name}")
            value, source = own.raw("value"), own.text("source")
            confidence = own.text("confidence", tuple(CONFIDENCE))
            own.close()
        number = Fields({name: value}, fields.where).number(name)
        low, high = (0, 2) if name in ("effnet", "swav") else (-1, 1)
        if math.isnan(number) or not low <= number <= high:
            raise ValueError(f"{fields.where}: {name}: expected {low} to {high}, got {number}")
        scores[name] = Number(number, source, confidence)
    return scores
