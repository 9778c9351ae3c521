"""Single trials against averages of two and more: every choice of an image's repeats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from brainit.experiments.findings import Findings, dots, headline, score_table
from brainit.experiments.image_scores import (
    CHANCE,
    DRAWS,
    SEED,
    ImageScores,
    difference,
    mean,
    read,
    repetitions,
)
from brainit.experiments.runs import retested
from brainit.run_folder import RunFolder
from brainit.stages.prepare import nsd_config, nsd_root
from brainit_clusters.data.dataset import BrainDataset
from brainit_clusters.data.nsd import prepare_nsd
from brainit_clusters.data.record import SubjectData
from brainit_eval.report import Figure
from brainit_eval.statistics import averages, effect_of_repeats


def run(base: RunFolder, out: Path, console: Console) -> Findings:
    """Decode every choice of one, two and all trials of the test images."""
    runs: dict[int, list[RunFolder]] = {}
    with BrainDataset.open(_single_trials(base, out / "trials.h5")) as dataset:
        trials = _together(base, dataset)
        for size in range(1, _repeats(trials) + 1):
            for choice, subjects in _choices(trials, size):
                folder = out / f"trials-{'-'.join(map(str, choice))}"
                runs.setdefault(size, []).append(retested(base, folder, subjects, dataset, console))
    scores = {size: repetitions([read(one) for one in ones]) for size, ones in runs.items()}
    return _findings(runs, scores)


def _findings(runs: dict[int, list[RunFolder]], scores: dict[int, ImageScores]) -> Findings:
    most = max(scores)
    names = {size: f"{size} trial{'s' if size > 1 else ''}" for size in scores}
    effects = effect_of_repeats(
        {size: part.values for size, part in scores.items()},
        scores[1].ids,
        n_bootstrap=DRAWS,
        seed=SEED,
    )
    means = {names[size]: mean(part) for size, part in scores.items()}
    first = {names[size]: (ones[0], "fused") for size, ones in runs.items()}
    tests = {
        f"{names[size]} - 1 trial": difference(part, scores[1])
        for size, part in scores.items()
        if size > 1
    }
    return Findings(
        title="Single trials and averages",
        question=f"What do averages of up to {most} trials gain over a single one?",
        runs={run.path.name: run for ones in runs.values() for run in ones},
        headline=[headline(name, value) for name, value in means.items()],
        tables=[score_table(first, caption="Fused images; the first choice of so many trials.")],
        figures=[
            Figure(
                "Late features",
                "Mean over every choice of so many trials of an image; the line is chance.",
                dots({"fused": means}, "two-way, late features", CHANCE),
            )
        ],
        tests=tests,
        sentences=[f"{name}: {test.verdict}." for name, test in tests.items()],
        limits=["The models learnt from averages of all trials of an image."],
        numbers={"effects": effects},
    )


def _single_trials(base: RunFolder, path: Path) -> Path:
    """A dataset with a row a trial, of the subjects that the base is tested on."""
    if not path.is_file():
        config = replace(
            nsd_config(base.profile),
            subjects=base.profile.evaluation.subjects,
            repeats="trials",
            trials=None,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        prepare_nsd(nsd_root(base), path, config)
    return path


def _together(
    base: RunFolder, dataset: BrainDataset
) -> dict[str, tuple[SubjectData, NDArray[np.float32]]]:
    """Per subject its test images of which all repeats are there, and these [n, repeats, N_s]."""
    limit = base.profile.evaluation.images_per_subject or None
    found = {}
    for name in dataset.subjects:
        subject = dataset.subject(name)
        rows = subject.rows("test")
        ids, counts = np.unique(subject.image_id[rows], return_counts=True)
        whole = ids[counts == counts.max()][:limit]
        rows = rows[np.isin(subject.image_id[rows], whole)]
        rows = rows[np.lexsort((rows, subject.image_id[rows]))]
        betas = subject.betas[rows].reshape(len(whole), counts.max(), -1)
        found[name] = (_of_images(subject, whole), betas)
    return found


def _of_images(subject: SubjectData, ids: NDArray[np.int64]) -> SubjectData:
    """A subject with a row an image, without responses yet."""
    n = len(ids)
    return replace(
        subject,
        betas=np.zeros((n, subject.n_voxels), np.float32),
        image_id=ids,
        repeats=np.ones(n, np.int16),
        split=np.full(n, "test"),
        trial=None,
    )


def _repeats(trials: dict[str, tuple[SubjectData, NDArray[np.float32]]]) -> int:
    return min(int(betas.shape[1]) for _, betas in trials.values())


def _choices(
    trials: dict[str, tuple[SubjectData, NDArray[np.float32]]], size: int
) -> Iterator[tuple[tuple[int, ...], dict[str, SubjectData]]]:
    """Every choice of so many trials of each image, the same for all subjects."""
    n = _repeats(trials)
    parts = {name: averages(betas[:, :n], size) for name, (_, betas) in trials.items()}
    for each in zip(*parts.values(), strict=True):
        subjects = {}
        for (name, (subject, _)), (_, betas) in zip(trials.items(), each, strict=True):
            repeats = np.full(len(betas), size, np.int16)
            subjects[name] = replace(subject, betas=betas.astype(np.float32), repeats=repeats)
        yield each[0][0], subjects
