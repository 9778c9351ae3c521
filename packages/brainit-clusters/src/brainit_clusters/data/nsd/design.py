"""NSD's design: which image each trial showed, in 0-based ids, checked against the log.

Everything 1-based in NSD's files (`masterordering`, `subjectim`, `sharedix`, `73KID`, `10KID`,
subject and session numbers) becomes 0-based here and nowhere else.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from brainit_clusters._files import existing
from brainit_clusters.data.nsd.config import Draw
from brainit_clusters.data.nsd.space import subject_name
from brainit_clusters.data.scans import reading

DESIGN = Path("nsddata/experiments/nsd/nsd_expdesign.mat")
_COLUMNS = ("SUBJECT", "SESSION", "73KID", "10KID")


@dataclass(frozen=True, eq=False)
class Design:
    """The experimental design, 0-based.

    Attributes:
        order: int64 [n_trials], which of its own images a subject sees at each trial.
        images: int64 [n_subjects, n_own], NSD id of each of a subject's images.
        shared: int64 [n_shared], NSD ids that every subject was to see, ascending.
    """

    order: NDArray[np.int64]
    images: NDArray[np.int64]
    shared: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Trials:
    """One subject's trials in the order they happened.

    Attributes:
        session: int64 [n_trials], 1-based as in NSD's file names, ascending.
        image_id: int64 [n_trials], 0-based NSD ids.
        number: int64 [n_trials], 0-based among all trials that happened, ascending.
    """

    session: NDArray[np.int64]
    image_id: NDArray[np.int64]
    number: NDArray[np.int64]

    @property
    def sessions(self) -> list[int]:
        """The sessions, ascending."""
        return [int(session) for session in np.unique(self.session)]

    def of_sessions(self, sessions: Iterable[int]) -> Trials:
        """The trials of given sessions."""
        chosen = np.isin(self.session, list(sessions))
        return Trials(self.session[chosen], self.image_id[chosen], self.number[chosen])

    def drawn(self, count: int, draw: Draw, seed: Sequence[int]) -> NDArray[np.bool_]:
        """Which of the trials are among so many that are drawn: bool [n_trials].

        Args:
            count: How many.
            draw: See `NSDConfig`.
            seed: Of random ones.

        Raises:
            ValueError: if there are fewer.
        """
        if count > len(self.session):
            raise ValueError(f"{count} trials to draw, there are {len(self.session)}")
        rng = np.random.default_rng(seed)
        sessions = np.split(np.arange(len(self.session)), np.flatnonzero(np.diff(self.session)) + 1)
        if draw == "random":
            sessions = [rng.permutation(sessions[i]) for i in rng.permutation(len(sessions))]
        chosen = np.zeros(len(self.session), bool)
        chosen[np.concatenate(sessions)[:count]] = True
        return chosen


def read_design(root: Path) -> Design:
    """Read `nsd_expdesign.mat` below an NSD root.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if a field is missing or the shared images are not everybody's first images.
    """
    path = root / DESIGN
    fields = ("masterordering", "subjectim", "sharedix")
    order, images, shared = (values - 1 for values in read_matlab(path, fields))
    shared = np.sort(shared.ravel())
    if order.min() < 0 or order.max() >= images.shape[1] or images.min() < 0:
        raise ValueError(f"{path}: masterordering or subjectim is out of range; both are 1-based")
    for subject, own in enumerate(images, start=1):
        if not np.array_equal(np.sort(own[: len(shared)]), shared):
            raise ValueError(f"{path}: sharedix is not the start of subjectim row {subject}")
    return Design(order.ravel(), images, shared)


def read_matlab(path: Path, fields: Sequence[str]) -> list[NDArray[np.int64]]:
    """Matrices of whole numbers in a MATLAB file.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: naming the file, and the field that is missing or not of whole numbers.
    """
    existing(path, "an experimental design")
    with reading(path):
        table = loadmat(path, variable_names=fields)
    found = []
    for name in fields:
        values = table.get(name)
        if values is None:
            raise ValueError(f"{path}: no field {name}")
        if values.dtype.kind not in "iuf" or not values.size or (values != np.rint(values)).any():
            raise ValueError(
                f"{path}: {name} is {values.dtype}, expected a matrix of whole numbers"
            )
        found.append(values.astype(np.int64))
    return found


def read_trials(root: Path, subject: int, design: Design) -> Trials:
    """Read a subject's `responses.tsv` and check every trial of it against the design.

    Args:
        root: NSD root.
        subject: 1-based subject number.
        design: What `read_design` returned.

    Raises:
        FileNotFoundError: if the file is not there.
        ValueError: at the first trial whose image, session or subject the design contradicts.
    """
    path = responses_path(root, subject)
    table = read_columns(existing(path, "a subject's trials"), _COLUMNS)
    session = table["SESSION"]
    n_trials = len(session)
    if not 1 <= subject <= len(design.images):
        raise ValueError(f"{path}: the design has subjects 1 to {len(design.images)} only")
    if not 0 < n_trials <= len(design.order):
        raise ValueError(f"{path}: {n_trials} trials, the design has {len(design.order)}")
    _check(path, "SUBJECT", table["SUBJECT"], np.full(n_trials, subject))
    steps = np.diff(session)
    if session[0] != 1 or not np.isin(steps, (0, 1)).all():
        raise ValueError(f"{path}: SESSION must count 1, 2, 3 ... in the order of the trials")
    order = design.order[:n_trials]
    image_id = design.images[subject - 1, order]
    _check(path, "10KID", table["10KID"], order + 1)
    _check(path, "73KID", table["73KID"], image_id + 1)
    return Trials(session, image_id, np.arange(n_trials))


def responses_path(root: Path, subject: int) -> Path:
    """Where a subject's trials are logged."""
    return root / "nsddata/ppdata" / subject_name(subject) / "behav/responses.tsv"


def read_columns(path: Path, columns: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Columns of whole numbers of a tab-separated table, by name.

    Raises:
        ValueError: naming the file, and the column that is missing or the cell that is wrong.
    """
    with reading(path), path.open(newline="") as file:
        reader = csv.DictReader(file, delimiter="\t")
        if missing := set(columns) - set(reader.fieldnames or ()):
            raise ValueError(f"{path}: no column {min(missing)}")
        rows = [[_whole(path, row, name) for name in columns] for row in reader]
    values = np.array(rows, np.int64).reshape(-1, len(columns))
    return dict(zip(columns, values.T, strict=True))


def _whole(path: Path, row: dict[str, str], name: str) -> int:
    try:
        value = float(row[name])
        if value == int(value):
            return int(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{path}: {name} holds {row[name]!r}, expected a whole number")


def _check(path: Path, column: str, found: NDArray[np.int64], expected: NDArray[np.int64]) -> None:
    wrong = np.flatnonzero(found != expected)
    if len(wrong):
        trial = wrong[0]
        raise ValueError(
            f"{path}: trial {trial + 1}: {column} is {found[trial]}, "
            f"the design says {expected[trial]}"
        )
