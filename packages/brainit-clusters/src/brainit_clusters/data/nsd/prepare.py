"""The Natural Scenes Dataset, from its own file layout to one `dataset.h5`.

NSD: Allen et al., Nature Neuroscience 25 (2022); preparation as in Brain-IT (arXiv 2510.25976).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from brainit_clusters._files import replacing
from brainit_clusters.data.dataset import (
    SubjectData,
    read_subject,
    write_dataset,
    write_subject,
)
from brainit_clusters.data.images import ResizedImages
from brainit_clusters.data.nsd.config import SESSIONS, NSDConfig
from brainit_clusters.data.nsd.design import (
    DESIGN,
    Design,
    Trials,
    read_design,
    read_trials,
    responses_path,
)
from brainit_clusters.data.nsd.image_sets import named_test_set
from brainit_clusters.data.nsd.manifest import input_hashes
from brainit_clusters.data.nsd.scans import Scans, open_scans, subjects_with_betas
from brainit_clusters.data.nsd.space import subject_name
from brainit_clusters.data.nsd.stimuli import STIMULI, TABLE, open_images, read_coco_ids
from brainit_clusters.data.parts import part_folder
from brainit_clusters.data.sessions import Session
from brainit_clusters.data.split import split_images
from brainit_clusters.data.subject import LEFT_OUT, Recording, has_row, subject_data


def prepare_nsd(
    root: str | Path, output: str | Path, config: NSDConfig, progress: bool = True
) -> Path:
    """Turn an NSD tree into a dataset file.

    Every trial's image is checked against `responses.tsv`, every file's shape before the first one
    is read. Voxels of the mask that cannot be used are dropped and counted; see `subject_data`.
    Shared images that are not in the test set are in no split.

    A hidden folder beside the output holds what is done of it: subjects, and sessions of the
    current subject. The same call with the same inputs goes on from there.

    Args:
        root: Folder that holds `nsddata`, `nsddata_stimuli` and `nsddata_betas`.
        output: The dataset file to write.
        config: What to read.
        progress: Show a progress bar.

    Returns:
        `output`.

    Raises:
        FileNotFoundError: naming the first missing file.
        ValueError: naming the file and field that cannot be right.
    """
    root, output = Path(root), Path(output)
    design = read_design(root)
    subjects = config.subjects or subjects_with_betas(root, config, config.betas)
    trials = {subject: _trials(root, subject, design, config) for subject in subjects}
    scans = {
        subject: open_scans(
            root,
            subject,
            config,
            config.betas,
            {f"betas_session{n:02d}": int((own.session == n).sum()) for n in own.sessions},
        )
        for subject, own in trials.items()
    }
    coco_id = read_coco_ids(root, design.images, design.shared)
    test = _test_set(root, design, trials, config)
    splits = {
        subject: _split(subject, own, design, test, config) for subject, own in trials.items()
    }
    drawn = {subject: _drawn(root, subject, own, config) for subject, own in trials.items()}
    image_id = np.unique(
        np.concatenate([_images(trials[s], splits[s], drawn[s]) for s in subjects])
    )
    settings = asdict(config) | {
        "source": "NSD",
        "test_set": f"shared{len(test)}",
        "test_set_asked": config.test_set,
        "n_vertices_per_hemisphere": _vertices(scans),
        "input_hashes": input_hashes(
            root,
            [root / DESIGN, root / TABLE, *(responses_path(root, s) for s in subjects)],
            [root / STIMULI],
            scans.values(),
        ),
    }
    n_sessions = sum(len(own.sessions) for own in trials.values())
    bar = tqdm(total=n_sessions, desc="prepare", unit="session", disable=not progress)
    images = open_images(root / STIMULI, int(image_id[-1]) + 1)
    with bar, part_folder(output, settings) as folder:
        return write_dataset(
            output,
            ResizedImages(images, image_id, config.image_size),
            image_id,
            (
                data
                for s in subjects
                for data in _subject(scans[s], trials[s], splits[s], drawn[s], config, folder, bar)
            ),
            settings,
            None if coco_id is None else coco_id[image_id],
        )


def _trials(root: Path, subject: int, design: Design, config: NSDConfig) -> Trials:
    """A subject's trials in the sessions that are asked for."""
    trials = read_trials(root, subject, design)
    if config.sessions == "40":
        return trials
    if config.sessions == "37":
        if subject > len(SESSIONS):
            raise ValueError(f"sessions '37' are known of subjects 1 to {len(SESSIONS)} only")
        return trials.of_sessions(range(1, SESSIONS[subject - 1] - 2))
    chosen = [int(number) for number in config.sessions]
    if missing := sorted(set(chosen) - set(trials.sessions)):
        raise ValueError(f"{responses_path(root, subject)}: no trial of session {missing[0]}")
    return trials.of_sessions(chosen)


def _test_set(
    root: Path, design: Design, trials: Mapping[int, Trials], config: NSDConfig
) -> NDArray[np.int64]:
    """The named test set. Where a subject's log is not there, NSD's number of sessions counts."""
    completed = []
    for subject in range(1, len(design.images) + 1):
        if subject in trials or responses_path(root, subject).is_file():
            completed.append(len(read_trials(root, subject, design).session))
        else:
            held = SESSIONS[subject - 1] if subject <= len(SESSIONS) else max(SESSIONS)
            completed.append(len(design.order) * held // max(SESSIONS))
    early = len(design.order) * (max(SESSIONS) - 3) // max(SESSIONS)
    return named_test_set(
        config.test_set, design.order, design.images, design.shared, completed, early
    )


def _split(
    subject: int, trials: Trials, design: Design, test: NDArray[np.int64], config: NSDConfig
) -> NDArray[np.str_]:
    """The split of each distinct image that a subject saw, ascending."""
    image_id = np.unique(trials.image_id)
    seed = (config.seed, subject)
    split = split_images(image_id, design.shared, config.validation_fraction, seed)
    split[(split == "test") & ~np.isin(image_id, test)] = LEFT_OUT
    return split


def _drawn(root: Path, subject: int, trials: Trials, config: NSDConfig) -> NDArray[np.bool_] | None:
    """The trials that training and validation may use; None: all."""
    if config.trials is None:
        return None
    try:
        return trials.drawn(config.trials, config.draw, (config.seed, subject, 1))
    except ValueError as error:
        raise ValueError(f"{responses_path(root, subject)}: {error}") from None


def _images(
    trials: Trials, split: NDArray[np.str_], drawn: NDArray[np.bool_] | None
) -> NDArray[np.int64]:
    """Ids of the images that a subject's rows show, in no order."""
    _, image = np.unique(trials.image_id, return_inverse=True)
    return trials.image_id[has_row(split[image], drawn)]


def _subject(
    scans: Scans,
    trials: Trials,
    split: NDArray[np.str_],
    drawn: NDArray[np.bool_] | None,
    config: NSDConfig,
    folder: Path,
    bar: tqdm[None],
) -> Iterator[SubjectData]:
    """One subject, from its part file if that is there."""
    name = subject_name(scans.subject)
    path = folder / f"{name}.h5"
    if path.is_file():
        bar.update(len(trials.sessions))
    else:
        recording = Recording(
            name,
            [
                Session(
                    f"{name}: {stem}",
                    np.flatnonzero(trials.session == n),
                    partial(scans.read, stem),
                )
                for n, stem in zip(trials.sessions, scans.files, strict=True)
            ],
            trials.image_id,
            scans.places,
            scans.ncsnr,
            trials.number,
            *scans.atlases,
            {"n_test_images": int((split == "test").sum()), "sessions": trials.sessions},
            drawn,
        )
        sessions = folder / name
        data = subject_data(recording, split, config.normalisation, config.repeats, sessions, bar)
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            write_subject(file.create_group(name), data)
        shutil.rmtree(sessions)
    with h5py.File(path, "r") as file:
        yield read_subject(file[name], name, file[name]["betas"])


def _vertices(scans: Mapping[int, Scans]) -> int | None:
    """Vertices of a whole hemisphere of the mesh that all subjects share (163,842 on fsaverage)."""
    first = next(iter(scans.values()))
    return first.mask.shape[0] if first.space.name == "fsaverage" else None
