"""Your results beside published ones: only where protocol, test set and subjects are the same."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from brainit_eval.leaderboard.published import Number, PublishedRow
from brainit_eval.metrics.registry import METRICS, Metric
from brainit_eval.protocol import Protocol, frozen_protocols
from brainit_eval.records.result import Result

RANKED_BY = ("effnet", "swav", "two_way_clip", "pixcorr")
"""Order of preference: EfficientNet's distance agrees best with human ratings of reconstructions
(SEED, arXiv 2503.06437)."""


@dataclass(frozen=True)
class Entry:
    """A number on the board.

    Attributes:
        value: The number.
        interval: Ends of its 95 % interval; None where none was published.
        sure: False if it was not read in the paper itself.
    """

    value: float
    interval: tuple[float, float] | None = None
    sure: bool = True


@dataclass(frozen=True)
class Line:
    """One method on the board; ``own`` if it is a result of yours."""

    method: str
    hours: float | None
    scores: Mapping[str, Entry]
    notes: tuple[str, ...] = ()
    own: bool = False


@dataclass(frozen=True)
class Leaderboard:
    """A table of methods that may be compared.

    Attributes:
        title: Protocol, test set and subjects.
        columns: Its metrics.
        ranked_by: The metric that orders the lines.
        lines: Best first; lines without that metric last.
        left_out: Published rows that are not comparable: name and reason.
    """

    title: str
    columns: tuple[Metric, ...]
    ranked_by: Metric
    lines: tuple[Line, ...]
    left_out: tuple[tuple[str, str], ...]


def leaderboard(
    results: Sequence[Result], published: Iterable[PublishedRow], ranked_by: str | None = None
) -> Leaderboard:
    """Put results beside the published rows that are comparable with them.

    A published number is comparable if its protocol's test set, first resizing step and settings of
    that metric are those the results were scored with, and its row is about the same subjects (a
    row with numbers per subject is averaged over yours).

    Args:
        results: Yours: one protocol, one test set, the same subjects.
        published: Rows from `load_published`.
        ranked_by: Metric that orders the lines; by default the first of `RANKED_BY` there is.

    Raises:
        ValueError: If there is no result, the results differ in what must be the same, or
            ``ranked_by`` is no metric of theirs.
    """
    first = _same(results)
    lines = [_own_line(result) for result in results]
    left_out = []
    for row in published:
        label = row.method if row.hours is None else f"{row.method} ({row.hours:g} h)"
        line = _published_line(row, first)
        if isinstance(line, str):
            left_out.append((f"{label}, {row.paper}", line))
        else:
            lines.append(line)
    columns = {name: metric_in(first, name) for name in first.metrics}
    by = ranked_by or next((name for name in RANKED_BY if name in columns), next(iter(columns)))
    if by not in columns:
        raise ValueError(f"ranked_by: expected one of {', '.join(columns)}, got {by!r}")
    lines.sort(key=lambda line: _place(line, columns[by]))
    title = (
        f"{first.protocol.name} · {first.test_set.name} ({first.test_set.n_images} images) · "
        f"mean of {', '.join(first.subjects)}"
    )
    return Leaderboard(title, tuple(columns.values()), columns[by], tuple(lines), tuple(left_out))


def _same(results: Sequence[Result]) -> Result:
    if not results:
        raise ValueError("leaderboard: expected one result or more")
    first = results[0]
    for other in results[1:]:
        for name, a, b in (
            ("protocol", first.protocol.settings, other.protocol.settings),
            ("test set", first.test_set, other.test_set),
            ("subjects", set(first.subjects), set(other.subjects)),
        ):
            if a != b:
                raise ValueError(
                    f"{other.method} and {first.method} differ in {name}: one board each"
                )
    return first


def _own_line(result: Result) -> Line:
    scores = {
        name: Entry(score.value, (score.low, score.high)) for name, score in result.metrics.items()
    }
    notes = result.warnings
    if result.samples > 1:
        notes = (f"mean of {result.samples} samples an image", *notes)
    return Line(result.method, None, scores, notes, own=True)


def _published_line(row: PublishedRow, result: Result) -> Line | str:
    """A line with what is comparable, or the reason why nothing is."""
    if row.protocol is None:
        return "its protocol is not known"
    if row.protocol not in frozen_protocols():
        return f"its protocol is {row.protocol}"
    if (row.test_set, row.n_images) != (result.test_set.name, result.test_set.n_images):
        return f"its test set is {row.test_set} ({row.n_images} images)"
    metrics = _shared(Protocol.load(row.protocol).settings, result.protocol.settings)
    if not metrics:
        return f"its protocol is {row.protocol}, with other settings"
    numbers = _numbers(row, result.subjects)
    if numbers is None:
        return f"it is a mean over {', '.join(row.subjects)}"
    scores = {
        name: Entry(number.value, sure=number.confidence == "paper")
        for name, number in numbers.items()
        if name in metrics
    }
    if not scores:
        return "it has no metric of the result"
    return Line(row.method, row.hours, scores, (f"{row.paper}: {row.citation}", *_note(row)))


def _shared(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> set[str]:
    """Metrics that both protocols compute in the same way on the same test set."""
    if any(theirs[part] != ours.get(part) for part in ("test_set", "front")):
        return set()
    metrics = ours.get("metrics")
    if not isinstance(metrics, Mapping):
        return set()
    return {name for name, spec in theirs["metrics"].items() if metrics.get(name) == spec}


def _numbers(row: PublishedRow, subjects: Sequence[str]) -> Mapping[str, Number] | None:
    if set(subjects) == set(row.subjects):
        return row.scores
    if not set(subjects) <= set(row.per_subject):
        return None
    tables = [row.per_subject[subject] for subject in subjects]
    return {
        name: Number(
            sum(table[name].value for table in tables) / len(tables),
            tables[0][name].source,
            tables[0][name].confidence,
        )
        for name in tables[0]
        if all(name in table for table in tables)
    }


def _note(row: PublishedRow) -> tuple[str, ...]:
    return (f"{row.method}: {row.note}",) if row.note else ()


def metric_in(result: Result, name: str) -> Metric:
    """A metric of a result: what it is called, what it compares, and which way is better.

    Direction, and what may be shown in per cent, are as the result's protocol computes it, whatever
    name a user's own protocol gave it.
    """
    spec = result.protocol.metric(name)
    where = " ".join(str(spec.get(key, "")) for key in ("network", "layer")).strip()
    two_way = spec.get("score") == "two_way"
    note = f"{spec.get('score', name)} of {where or 'pixels'}"
    known = METRICS.get(name) or Metric(name, name, note)
    return replace(
        known,
        chance=0.5 if two_way else known.chance,
        percent=two_way,
        higher_is_better=result.metrics[name].higher_is_better,
    )


def _place(line: Line, by: Metric) -> tuple[bool, float]:
    value = line.scores[by.name].value if by.name in line.scores else math.nan
    if math.isnan(value):
        return True, 0.0
    return False, -value if by.higher_is_better else value
