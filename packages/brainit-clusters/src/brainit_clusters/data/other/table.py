"""Trial tables: which image each trial showed, in which session and run."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainit_clusters._files import existing
from brainit_clusters.data.dataset import SPLITS

_COLUMNS = ("subject", "session", "run", "image", "split", "trial")


@dataclass(frozen=True, eq=False)
class TrialTable:
    """One subject's trials, in the order of its betas.

    Attributes:
        session: str [n_trials]; betas are z-scored within each.
        image: str [n_trials], a file name in the folder of images or a 0-based row of their array.
        run: str [n_trials], or None.
        split: str [n_trials], "train", "val" or "test", or None.
        where: The file, for messages.
    """

    session: NDArray[np.str_]
    image: NDArray[np.str_]
    run: NDArray[np.str_] | None = None
    split: NDArray[np.str_] | None = None
    where: str = "trial table"

    def __post_init__(self) -> None:
        n_trials = len(self.session)
        if not n_trials:
            raise ValueError(f"{self.where}: no trials")
        for name in ("session", "image", "run", "split"):
            values = getattr(self, name)
            if values is not None and values.dtype.kind != "U":
                raise ValueError(f"{self.where}: {name} is {values.dtype}, expected strings")
            if values is not None and len(values) != n_trials:
                raise ValueError(f"{self.where}: {len(values)} {name}s, expected {n_trials}")
        self._check_blocks("session", self.session)
        if self.run is not None:
            labels = np.char.add(np.char.add(self.session, "/"), self.run)
            self._check_blocks("run", labels)
        if self.split is not None and (unknown := set(self.split) - set(SPLITS)):
            raise ValueError(
                f"{self.where}: column split holds {str(min(unknown))!r}, expected one of {SPLITS}"
            )

    def _check_blocks(self, column: str, labels: NDArray[np.str_]) -> None:
        starts = np.append(True, labels[1:] != labels[:-1])
        seen: set[str] = set()
        for row in np.flatnonzero(starts):
            if labels[row] in seen:
                raise ValueError(
                    f"{self.where}: column {column}: '{labels[row]}' comes back at trial {row}; "
                    "rows must be in the order of the betas, or have a column trial (0-based)"
                )
            seen.add(str(labels[row]))


def read_trial_table(path: str | Path, subject: str | None = None) -> TrialTable:
    """Read a trial table, `.csv` or tab-separated.

    Columns by name, in any order, others ignored: `image` (needed), `session` (one session where
    it is missing), `run`, `split`, `subject` and `trial`. With `trial` (0-based) the rows may come
    in any order; without, they are in the order of the betas.

    Args:
        path: The table.
        subject: Take the rows whose column `subject` says so; None: there is one subject.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file and the column that cannot be right.
    """
    path = existing(Path(path), "a trial table")
    rows = _rows(path)
    if subject is not None and "subject" in rows[0]:
        rows = [row for row in rows if row["subject"] == subject]
        if not rows:
            raise ValueError(f"{path}: column subject: no row says {subject!r}")
    elif len(names := {row["subject"] for row in rows if "subject" in row}) > 1:
        raise ValueError(f"{path}: column subject names {sorted(names)}, say which one is meant")
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    order = _order(path, columns, len(rows))
    kept = {name: values[order] for name, values in columns.items()}
    session = kept.get("session", np.full(len(rows), "1"))
    return TrialTable(session, kept["image"], kept.get("run"), kept.get("split"), str(path))


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, delimiter="," if path.suffix == ".csv" else "\t")
            found = [name for name in reader.fieldnames or () if name in _COLUMNS]
            table = [{name: (row[name] or "").strip() for name in found} for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a readable text table ({error})") from error
    if "image" not in found:
        raise ValueError(f"{path}: no column image")
    if not table:
        raise ValueError(f"{path}: no trials")
    for number, row in enumerate(table):
        if empty := [name for name in found if row[name] in ("", "n/a")]:
            raise ValueError(f"{path}: trial {number}: column {empty[0]} is empty")
    return table


def _order(path: Path, columns: dict[str, NDArray[np.str_]], n_rows: int) -> NDArray[np.intp]:
    if "trial" not in columns:
        return np.arange(n_rows)
    try:
        trial = columns["trial"].astype(np.int64)
    except ValueError as error:
        raise ValueError(f"{path}: column trial holds no whole number ({error})") from error
    order = np.argsort(trial)
    if not np.array_equal(trial[order], np.arange(n_rows)):
        raise ValueError(f"{path}: column trial must hold each of 0 to {n_rows - 1} once")
    return order
