"""The runs that an experiment compares: a base, changed in a setting or in what it is tested on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from brainit.adaptation import adapted_profile
from brainit.pipeline import Stage, applicable, run_stages
from brainit.profile import Profile, override
from brainit.run_folder import RunFolder
from brainit_clusters.data.dataset import BrainDataset
from brainit_clusters.data.record import SubjectData
from brainit_clusters.data.writing import write_dataset

TRAINED = ("encoder", "clusters", "external", "low_level", "semantic", "joint")
TESTED = ("baseline", "coarse", "images", "evaluate")
PICTURES = ("coarse", "images")
"""Stages whose files stay with their run."""


def changed(base: RunFolder, folder: Path, overrides: Sequence[str], console: Console) -> RunFolder:
    """A run up to its scores with some settings of the base changed.

    Stages whose settings and inputs are the base's are taken over, not run.

    Args:
        base: A finished run.
        folder: Of the new one, which goes on if it is there.
        overrides: Such as "clusters.count=8"; where they change nothing, the base is returned.
        console: Where stages are told.
    """
    profile = override(base.profile, list(overrides))
    return base if profile == base.profile else made(folder, profile, console, base)


def without(base: RunFolder, folder: Path, subject: int, console: Console) -> RunFolder:
    """The base trained on all of its subjects but one, to which it can be adapted then."""
    others = [n for n in base.profile.data.subjects if n != subject]
    tested = [n for n in base.profile.evaluation.subjects if n != subject] or others
    overrides = [f"data.subjects={others}", f"evaluation.subjects={tested}"]
    return changed(base, folder, overrides, console)


def adapted(
    base: RunFolder,
    folder: Path,
    subject: int,
    overrides: Sequence[str],
    console: Console,
    like: RunFolder | None = None,
) -> RunFolder:
    """A run that adapts a base to a subject that it was not trained on.

    Args:
        base: Trained without the subject.
        folder: Of the new run.
        subject: Its number.
        overrides: Such as "data.minutes=15".
        console: Where stages are told.
        like: Another such run, whose stages are taken over where they are the same.
    """
    profile = override(adapted_profile(base, subject), list(overrides))
    return made(folder, profile, console, like)


def alone(
    base: RunFolder, folder: Path, subject: int, overrides: Sequence[str], console: Console
) -> RunFolder:
    """A run that trains everything on one subject of the base's world, from scratch."""
    here = [f"data.subjects=[{subject}]", f"evaluation.subjects=[{subject}]"]
    if not base.profile.data.root:
        # Scans are read as they are, whatever the new run's seed.
        root, external = (base.output("simulate", name).resolve() for name in ("root", "external"))
        here += [f"data.root={json.dumps(str(root))}", f"data.external={json.dumps(str(external))}"]
    return made(folder, override(base.profile, [*here, *overrides]), console)


def made(
    folder: Path, profile: Profile, console: Console, like: RunFolder | None = None
) -> RunFolder:
    """Run all stages of a profile up to its scores.

    Args:
        folder: Of the run, which goes on if it is there.
        profile: Its profile.
        console: Where stages are told.
        like: A run whose stages are taken over where settings and inputs are the same.
    """
    run = RunFolder(folder, profile)
    console.print(f"[bold]{folder.name}[/bold]")
    skipped = {"report", "simulate"} if profile.data.root else {"report"}
    stages = [stage for stage in applicable(profile) if stage.name not in skipped]
    if like is not None:
        _take_over_same(run, like, stages)
    run_stages(run, [stage.name for stage in stages], console)
    return run


def _take_over_same(run: RunFolder, like: RunFolder, stages: Sequence[Stage]) -> None:
    for stage in stages:
        if stage.name in PICTURES:
            continue
        fingerprint = stage.fingerprint(run)
        if not run.is_current(stage.name, fingerprint) and like.is_current(stage.name, fingerprint):
            take_over(run, like, stage.name, fingerprint)


def retested(
    base: RunFolder,
    folder: Path,
    subjects: Mapping[str, SubjectData],
    images: BrainDataset,
    console: Console,
) -> RunFolder:
    """The base's models, tested on other responses: a run with new scores and nothing trained.

    Args:
        base: A finished run.
        folder: Of the new one, which goes on if it is there.
        subjects: Whose rows are tested in place of the base's test rows, all of them.
        images: What they saw.
        console: Where stages are told.
    """
    every = {"images_per_subject": 0, "split": "test", "trials": False}
    tested = replace(base.profile.evaluation, **every)  # type: ignore[arg-type]
    run = RunFolder(folder, replace(base.profile, evaluation=tested))
    console.print(f"[bold]{folder.name}[/bold]: the base's models on other responses")
    digest = _digest(subjects)
    dataset = folder / "dataset.h5"
    if not run.is_current("prepare", digest):
        _write(base, dataset, subjects, images)
        run.finish("prepare", digest, 0.0, {"dataset": dataset})
    for name in (name for name in TRAINED if name in base.manifest["stages"]):
        # What is tested is no part of a trained stage, but what follows must know of it.
        trained = base.manifest["stages"][name]["fingerprint"]
        take_over(run, base, name, hashlib.sha256(f"{trained} {digest}".encode()).hexdigest())
    run_stages(run, TESTED, console)
    return run


def take_over(run: RunFolder, base: RunFolder, stage: str, fingerprint: str) -> None:
    """Enter a stage of the base as finished here; its outputs stay where they are."""
    entry = base.manifest["stages"][stage]
    outputs = {name: base.output(stage, name) for name in entry["outputs"]}
    run.finish(stage, fingerprint, entry["seconds"], outputs)


def _write(
    base: RunFolder, path: Path, subjects: Mapping[str, SubjectData], images: BrainDataset
) -> None:
    """The base's dataset with other test rows; the ridge baseline learns from its training rows."""
    with BrainDataset.open(base.output("prepare", "dataset")) as own:
        parts = {name: own.subject(name) for name in subjects}
        learnt = np.unique(np.concatenate([s.image_id[s.split != "test"] for s in parts.values()]))
        tested = np.unique(np.concatenate([s.image_id for s in subjects.values()]))
        shift = 0 if images.path == own.path else int(own.image_ids[-1]) + 1
        order = np.argsort(ids := np.concatenate([learnt, tested + shift]))
        pictures = np.concatenate([own.images(learnt), images.images(tested)])[order]
        merged = (_merged(parts[name], new, shift) for name, new in subjects.items())
        write_dataset(path, pictures, ids[order], merged, {"source": f"{own.path}, retested"})


def _merged(own: SubjectData, new: SubjectData, shift: int) -> SubjectData:
    kept = np.flatnonzero(own.split != "test")
    image_id = np.concatenate([own.image_id[kept], new.image_id + shift])
    order = np.argsort(image_id)
    split = np.concatenate([own.split[kept], np.full(len(new.image_id), "test")])
    return replace(
        own,
        image_id=image_id[order],
        betas=np.concatenate([own.betas[kept], new.betas])[order],
        repeats=np.concatenate([own.repeats[kept], new.repeats])[order],
        split=split[order],
        trial=None,
    )


def _digest(subjects: Mapping[str, SubjectData]) -> str:
    digest = hashlib.sha256(json.dumps(list(subjects)).encode())
    for subject in subjects.values():
        for values in (subject.image_id, subject.betas):
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
