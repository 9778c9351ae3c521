"""NSD-imagery: 18 stimuli, seen and imagined (Kneeland et al., arXiv 2506.06898)."""

from __future__ import annotations

import csv
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from brainit_clusters._files import existing
from brainit_clusters.data.nsd.companion import companion_recording, write_companion
from brainit_clusters.data.nsd.config import ScanConfig, check_choice
from brainit_clusters.data.nsd.manifest import input_hashes
from brainit_clusters.data.nsd.scans import Scans, open_scans, subjects_with_betas
from brainit_clusters.data.nsd.space import subject_name
from brainit_clusters.data.other.stimuli import open_images
from brainit_clusters.data.scans import reading
from brainit_clusters.data.sessions import Session
from brainit_clusters.data.subject import Recording

Task = Literal["vision", "imagery"]
RUNS = {
    "visA": 48, "attA": 96, "imgA_1": 48, "visB": 48, "attB": 96, "imgB_1": 48,
    "visC": 48, "attC": 96, "imgC_1": 48, "imgA_2": 48, "imgB_2": 48, "imgC_2": 48,
}  # fmt: skip
"""Runs in the order of the betas, and their trials."""
_KIND = {"vision": "vis", "imagery": "img"}
_LOGS = Path("nsddata/bdata/nsdimagery")
_STEM = "betas_nsdimagery"


def prepare_imagery(
    root: str | Path, output: str | Path, config: ScanConfig, task: Task, images: str | Path
) -> Path:
    """Turn one task of NSD-imagery into a dataset file; all rows are of the split "test".

    Voxels are z-scored in each run, over all its trials. Trials of conditions that the table does
    not name, such as the concepts (set C), which have no image, are left out; the subject's
    attribute `conditions_left_out` names them.

    Args:
        root: NSD root; `nsddata/bdata/nsdimagery` holds the condition of every trial.
        output: The dataset file to write.
        config: Subjects, image size, betas, space, mask, repeats.
        task: "vision" (runs visA to visC) or "imagery" (imgA_1 to imgC_2); the attention runs are
            not read.
        images: Table (`.csv`) with columns `condition` and `image`: for each condition, which NSD
            names by a letter, its image file beside the table. Which is which is for you to say.

    Returns:
        `output`.

    Raises:
        FileNotFoundError, ValueError: naming the file and field that cannot be right.
    """
    check_choice("task", task, get_args(Task))
    root, table, betas = Path(root), Path(images), f"nsdimagery{config.betas}"
    image_of = _image_table(table)
    stimuli = open_images(table.parent, set(image_of.values()), config.image_size)
    id_of = {condition: stimuli.id_of[image] for condition, image in image_of.items()}
    subjects = config.subjects or subjects_with_betas(root, config, betas)
    n_trials = {_STEM: sum(RUNS.values())}
    scans = [open_scans(root, s, config, betas, n_trials) for s in subjects]
    runs = [run for run in RUNS if run.startswith(_KIND[task])]
    logs = [_log_path(root, scan.subject, run) for scan in scans for run in runs]
    attributes = asdict(config) | {
        "source": f"NSD-imagery, {task}",
        "normalisation": "published",
        "image_names": stimuli.names,
        "input_hashes": input_hashes(root, [table, *stimuli.files, *logs], [], scans),
    }
    recordings = [_recording(scan, runs, id_of) for scan in scans]
    return write_companion(
        Path(output), stimuli, stimuli.image_id, recordings, config.repeats, attributes
    )


def _recording(scan: Scans, runs: list[str], id_of: dict[str, int]) -> Recording:
    ends = dict(zip(RUNS, accumulate(RUNS.values()), strict=True))
    sessions: list[Session] = []
    shown: list[str] = []
    for run in runs:
        now = np.arange(len(shown), len(shown) + RUNS[run])
        shown += _conditions(_log_path(scan.root, scan.subject, run), RUNS[run])
        part = slice(ends[run] - RUNS[run], ends[run])
        where = f"{subject_name(scan.subject)}: run {run}"
        sessions.append(Session(where, now, _Part(scan, part)))
    without = sorted(set(shown) - set(id_of))
    # A number for each condition, so that the noise is estimated within conditions.
    number = id_of | {condition: -1 - place for place, condition in enumerate(without)}
    image_id = np.array([number[condition] for condition in shown], np.int64)
    return companion_recording(scan, sessions, image_id, {"conditions_left_out": without})


class _Part:
    """Reads some trials of the one file that holds all runs."""

    def __init__(self, scan: Scans, part: slice) -> None:
        self._scan, self._part = scan, part

    def __call__(self, columns: slice) -> NDArray[np.float32]:
        return self._scan.read(_STEM, columns)[self._part]


def _log_path(root: Path, subject: int, run: str) -> Path:
    return root / _LOGS / f"nsdimagery_{subject_name(subject)}_{run}.tsv"


def _conditions(path: Path, n_trials: int) -> list[str]:
    found = [row["CONDITION"] for row in _table(path, ("CONDITION",), "\t")]
    if len(found) != n_trials:
        raise ValueError(f"{path}: {len(found)} trials, expected {n_trials}")
    return found


def _image_table(path: Path) -> dict[str, str]:
    rows = _table(path, ("condition", "image"), ",")
    image_of = {row["condition"]: row["image"] for row in rows}
    if not rows or len(image_of) < len(rows):
        raise ValueError(f"{path}: column condition must name at least one, and none twice")
    return image_of


def _table(path: Path, columns: tuple[str, ...], separator: str) -> list[dict[str, str]]:
    existing(path, f"a table with {' and '.join(columns)}")
    with reading(path), path.open(newline="") as file:
        reader = csv.DictReader(file, delimiter=separator)
        if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
            raise ValueError(f"{path}: no column {missing[0]}")
        rows = [{name: row[name] or "" for name in columns} for row in reader]
    if not all(value for row in rows for value in row.values()):
        raise ValueError(f"{path}: an empty cell in {' or '.join(columns)}")
    return rows
