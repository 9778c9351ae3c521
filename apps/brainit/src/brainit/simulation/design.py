"""The design of a simulated experiment, as NSD writes it: which image when, and the trials' log."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.io
from numpy.typing import NDArray

from brainit.simulation.config import SimulationConfig
from brainit.simulation.files import write_bytes

RESPONSE_COLUMNS = [
    "SUBJECT",
    "SESSION",
    "RUN",
    "TRIAL",
    "73KID",
    "10KID",
    "TIME",
    "ISOLD",
    "ISCORRECT",
    "RT",
    "CHANGEMIND",
    "MEMORYRECENT",
    "MEMORYFIRST",
    "ISOLDCURRENT",
    "ISCORRECTCURRENT",
    "TOTAL1",
    "TOTAL2",
    "BUTTON",
    "MISSINGDATA",
]


def subject_images(config: SimulationConfig) -> NDArray[np.int64]:
    """0-based image ids of every subject, [n_subjects, images_per_subject], shared ones first."""
    ids = np.random.default_rng([config.seed, 4]).permutation(config.n_images)
    shared, own = np.split(ids, [config.shared_images])
    own = own.reshape(config.n_subjects, config.own_images)
    return np.concatenate([np.tile(np.sort(shared), (config.n_subjects, 1)), own], 1)


def write_design(
    folder: Path, ids: NDArray[np.int64], order: NDArray[np.int64], config: SimulationConfig
) -> None:
    """Write the design, the table of images and every subject's trials.

    Args:
        folder: The folder ``nsddata/experiments/nsd``.
        ids: Image ids of every subject, see `subject_images`.
        order: Position among its images of each trial, see `trial_order`.
        config: The world.
    """
    design = {
        "masterordering": (order + 1)[None].astype(float),
        "subjectim": (ids + 1).astype(float),
        "sharedix": (ids[:1, : config.shared_images] + 1).astype(float),
    }
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, design, do_compression=True)
    # MATLAB files begin with 116 bytes of free text, where scipy writes the date.
    text = b"MATLAB 5.0 MAT-file, simulated by brainit".ljust(116)
    write_bytes(folder / "nsd_expdesign.mat", text + buffer.getvalue()[116:])
    _write_stimulus_table(folder / "nsd_stim_info_merged.csv", ids, order, config)
    behaviour = folder.parents[1] / "ppdata"
    for subject in range(config.n_subjects):
        rows = _trial_rows(subject, ids[subject], order, config)
        path = behaviour / config.subject_name(subject) / "behav/responses.tsv"
        write_bytes(path, _table(RESPONSE_COLUMNS, rows, "\t"))


def _trial_rows(
    subject: int, ids: NDArray[np.int64], order: NDArray[np.int64], config: SimulationConfig
) -> Iterator[list[object]]:
    """Rows of responses.tsv. No behaviour is simulated: what depends on button presses is NaN."""
    seen: dict[int, int] = {}
    for trial, image in enumerate(order.tolist()):
        session, k = divmod(trial, config.trials_per_session)
        run, place = divmod(k, -(-config.trials_per_session // 12))
        old, old_today = int(image in seen), int(seen.get(image, -1) == session)
        seen[image] = session
        where: list[object] = [
            subject + 1,
            session + 1,
            run + 1,
            place + 1,
            ids[image] + 1,
            image + 1,
        ]
        memory = ["NaN"] * 5
        yield [*where, "NaN", old, *memory, old_today, *["NaN"] * 4, 1]


def _write_stimulus_table(
    path: Path, ids: NDArray[np.int64], order: NDArray[np.int64], config: SimulationConfig
) -> None:
    subjects = range(config.n_subjects)
    trial_of = np.argsort(order, kind="stable").reshape(-1, config.repeats) + 1
    trials = np.zeros((config.n_images, config.n_subjects, config.repeats), int)
    for subject in subjects:
        trials[ids[subject], subject] = trial_of
    shared = np.isin(np.arange(config.n_images), ids[0, : config.shared_images])
    columns = [
        "cocoId",
        "cocoSplit",
        "cropBox",
        "loss",
        "nsdId",
        "flagged",
        "BOLD5000",
        "shared1000",
    ]
    columns += [f"subject{s + 1}" for s in subjects]
    columns += [f"subject{s + 1}_rep{r}" for s in subjects for r in range(config.repeats)]
    rows = (
        [
            i,
            config.scene_seed(i),
            "simulated",
            "(0, 0, 0, 0)",
            0.0,
            i,
            False,
            False,
            bool(shared[i]),
        ]
        + [int(trials[i, s].any()) for s in subjects]
        + trials[i].ravel().tolist()
        for i in range(config.n_images)
    )
    write_bytes(path, _table(["", *columns], rows, ","))


def _table(header: list[str], rows: Iterator[list[object]], separator: str) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=separator, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue().encode()
