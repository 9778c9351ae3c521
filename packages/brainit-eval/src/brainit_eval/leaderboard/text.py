"""A leaderboard as Markdown, or as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from brainit_eval.leaderboard.board import Entry, Leaderboard, Line
from brainit_eval.leaderboard.published import CONFIDENCE
from brainit_eval.metrics.registry import Metric


def markdown(board: Leaderboard) -> str:
    """The board as a Markdown table, with its notes and what was left out; own results are bold."""
    header, *rows = _table(board)
    bold = [f"**{row[0]}**" if line.own else row[0] for line, row in _with(board, rows)]
    rules = ["---", *["---:"] * (len(header) - 1)]
    lines = [f"### {board.title}", "", _row(header), _row(rules)]
    lines += [_row([name, *row[1:]]) for name, row in zip(bold, rows, strict=True)]
    lines += ["", *_remarks(board)]
    return "\n".join(line.replace("<", "&lt;") for line in lines) + "\n"


def terminal(board: Leaderboard) -> str:
    """The board as aligned text; own results are marked with ``>``."""
    header, *rows = _table(board)
    marked = [(">" if line.own else " ", row) for line, row in _with(board, rows)]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [board.title, ""]
    for mark, row in [(" ", header), *marked]:
        name, *numbers = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append(f"{mark} {name}  {'  '.join(numbers)}".rstrip())
    return "\n".join([*lines, "", *_remarks(board)]) + "\n"


def _with(board: Leaderboard, rows: Sequence[list[str]]) -> Iterable[tuple[Line, list[str]]]:
    return zip(board.lines, rows, strict=True)


def _table(board: Leaderboard) -> list[list[str]]:
    header = ["Method", "Hours", *(_title(column) for column in board.columns)]
    notes = _notes(board)
    rows = []
    for line in board.lines:
        marks = "".join(f" [{notes.index(note) + 1}]" for note in line.notes)
        hours = "" if line.hours is None else f"{line.hours:g}"
        numbers = [_cell(column, line.scores.get(column.name)) for column in board.columns]
        rows.append([line.method + marks, hours, *numbers])
    return [header, *rows]


def _remarks(board: Leaderboard) -> list[str]:
    others = "; ".join(text for name, text in CONFIDENCE.items() if name != "paper")
    lines = [
        f"Ranked by {_title(board.ranked_by)}. Brackets: 95 % interval. † {others}. "
        "Empty: not published or not confirmed.",
        "Test sets are compared by name and number of images; published tables name no ids.",
        "",
        *(f"{number}. {note}" for number, note in enumerate(_notes(board), 1)),
    ]
    if board.left_out:
        lines += ["", f"Left out ({len(board.left_out)}):", ""]
        lines += [f"- {name}: {reason}" for name, reason in board.left_out]
    return lines


def _notes(board: Leaderboard) -> list[str]:
    return list(dict.fromkeys(note for line in board.lines for note in line.notes))


def _title(column: Metric) -> str:
    return f"{column.label} {'↑' if column.higher_is_better else '↓'}"


def _cell(column: Metric, score: Entry | None) -> str:
    if score is None:
        return ""
    text = _number(column, score.value)
    if score.interval is not None:
        low, high = (_number(column, end) for end in score.interval)
        text += f" [{low}, {high}]"
    return text if score.sure else f"{text} †"


def _number(column: Metric, value: float) -> str:
    if value != value:
        return "n/a"
    return f"{100 * value:.1f}" if column.percent else f"{value:.3f}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
