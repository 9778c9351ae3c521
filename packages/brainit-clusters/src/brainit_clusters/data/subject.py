"""From one subject's sessions to its rows of a dataset: the same code for NSD and for own data."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from brainit_clusters.data.noise import noise_ceiling
from brainit_clusters.data.places import Places
from brainit_clusters.data.record import SubjectData
from brainit_clusters.data.sessions import REASONS, Normalisation, Session
from brainit_clusters.data.store import Rows, SessionStore

Repeats = Literal["average", "trials"]
LEFT_OUT = ""
"""The split of an image whose trials count in the z-scores of their session, and in no row."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Recording:
    """One subject's single trials, not read yet.

    Attributes:
        name: The subject's name.
        sessions: Its sessions.
        image_id: int64 [n_trials], the image of each trial.
        places: Where the voxels lie.
        ncsnr: [n_voxels] noise-ceiling signal-to-noise ratio; None: from the repeats.
        trial: int [n_trials], the trials' numbers among all that happened; None: all did.
        roi: See `SubjectData`, for all voxels of the recording.
        roi_labels: See `SubjectData`.
        attributes: What else the dataset shall say of the subject.
        drawn: bool [n_trials], the trials that training and validation may use, z-scored among
            themselves; None: all. Test images keep all their trials, z-scored with their session.
    """

    name: str
    sessions: Sequence[Session]
    image_id: NDArray[np.int64]
    places: Places
    ncsnr: NDArray[np.floating[Any]] | None = None
    trial: NDArray[np.integer[Any]] | None = None
    roi: Mapping[str, NDArray[np.int32]] = field(default_factory=dict)
    roi_labels: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    drawn: NDArray[np.bool_] | None = None


def subject_data(
    recording: Recording,
    split: NDArray[np.str_],
    normalisation: Normalisation,
    repeats: Repeats,
    folder: Path,
    progress: tqdm[None] | None = None,
) -> SubjectData:
    """Z-score every voxel in every session, average repeats, drop what cannot be used.

    A voxel is dropped if it is not finite in any trial, 0 throughout a session (outside its field
    of view), constant in a session, or without a (given) noise estimate.

    Args:
        recording: The trials.
        split: str [n_images], of each distinct image, ascending: train, val, test or `LEFT_OUT`.
        normalisation: "published": mean and standard deviation over all trials of the session;
            "leak-free": over its training trials alone.
        repeats: "average": a row an image; "trials": a row a trial.
        folder: For the sessions while they are gathered; see `SessionStore`. The betas that are
            returned read from it.
        progress: Goes on by one after each session.

    Raises:
        FileNotFoundError, ValueError: naming the file, or the session, and what is wrong.
    """
    n_voxels = len(recording.places.vertex)
    _, image, counts = np.unique(recording.image_id, return_inverse=True, return_counts=True)
    shown, drawn = split[image], recording.drawn
    used = shown == "train" if normalisation == "leak-free" else np.ones(len(image), bool)
    apart = np.zeros(len(image), bool) if drawn is None else drawn & (shown != "test")
    store = SessionStore(folder, recording.sessions, n_voxels, used, apart)
    for _ in store.fill():
        if progress is not None:
            progress.update()
    reasons = store.reasons()
    kept, dropped = _kept(recording, reasons.max(axis=0))
    given = recording.ncsnr is not None
    ncsnr = (recording.ncsnr if given else store.ncsnr(image))[kept]  # type: ignore[index]
    there = has_row(shown, drawn)
    rows, first, per_row = _rows(image, there, repeats)
    n_left_out = len(counts) - len(np.unique(image[there]))
    places = recording.places
    trial = np.arange(len(image)) if recording.trial is None else recording.trial
    return SubjectData(
        name=recording.name,
        betas=cast(NDArray[np.float32], Rows(store, rows, kept)),
        image_id=recording.image_id[first],
        repeats=per_row.astype(np.int16),
        split=split[image[first]],
        vertex=places.vertex[kept],
        hemisphere=places.hemisphere[kept],
        noise_ceiling=_ceiling(ncsnr, per_row),
        roi={name: labels[kept] for name, labels in recording.roi.items()},
        roi_labels=recording.roi_labels,
        attributes={
            "n_sessions": len(recording.sessions),
            "n_trials": len(image),
            "dropped_vertices": dropped,
            "unusable_by_session": _by_session(recording.sessions, reasons),
            "images_left_out": n_left_out,
            **({} if drawn is None else {"n_trials_drawn": int(drawn.sum())}),
            "noise_ceiling_from": _ceiling_source(given, counts),
            **({} if places.ijk is None else {"volume_shape": places.shape}),
            **recording.attributes,
        },
        ijk=None if places.ijk is None else places.ijk[kept],
        affine=places.affine,
        trial=trial[first].astype(np.int32) if repeats == "trials" else None,
    )


def has_row(shown: NDArray[np.str_], drawn: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Which trials are part of a row: bool [n_trials].

    Args:
        shown: str [n_trials], the split of the image that each trial showed.
        drawn: See `Recording`.
    """
    there: NDArray[np.bool_] = shown != LEFT_OUT
    return there if drawn is None else there & (drawn | (shown == "test"))


def _kept(
    recording: Recording, reason: NDArray[np.uint8]
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Voxels that can be used, and how many cannot for which reason."""
    known = np.ones(len(reason), bool)
    if recording.ncsnr is not None:
        known = np.isfinite(recording.ncsnr)
    dropped = {name: int((reason == code).sum()) for code, name in enumerate(REASONS, start=1)}
    dropped["no_ncsnr"] = int(((reason == 0) & ~known).sum())
    _log.info("%s: dropped voxels: %s", recording.name, dropped)
    kept = (reason == 0) & known
    if not kept.any():
        raise ValueError(
            f"{recording.name}: no voxel has a value in every trial and varies: dropped {dropped}"
        )
    return kept, dropped


def _rows(
    image: NDArray[np.intp], there: NDArray[np.bool_], repeats: Repeats
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """The row of each trial (-1: none), and of each row its first trial and number of trials."""
    label = image if repeats == "average" else np.arange(len(image))
    _, first, row, counts = np.unique(
        label[there], return_index=True, return_inverse=True, return_counts=True
    )
    rows = np.full(len(image), -1)
    rows[there] = row
    return rows, np.flatnonzero(there)[first], counts


def _by_session(sessions: Sequence[Session], reasons: NDArray[np.uint8]) -> dict[str, int]:
    """Sessions in which some voxel cannot be used, and how many."""
    counts = np.count_nonzero(reasons, axis=1).tolist()
    return {s.where: count for s, count in zip(sessions, counts, strict=True) if count}


def _ceiling(ncsnr: NDArray[np.floating[Any]], repeats: NDArray[np.intp]) -> NDArray[np.float32]:
    if np.isnan(ncsnr).all():
        return np.full(len(ncsnr), np.nan, np.float32)
    return noise_ceiling(ncsnr, repeats)


def _ceiling_source(given: bool, counts: NDArray[np.intp]) -> str:
    if given:
        return "given ncsnr"
    n_repeated = int((counts > 1).sum())
    return f"{n_repeated} repeated images" if n_repeated else "unknown: no image was repeated"
