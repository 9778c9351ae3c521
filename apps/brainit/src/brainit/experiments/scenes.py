"""Images unlike those that models were trained on: gratings, noise, words, novel objects.

Read as NSD-synthetic; in a simulated world the same brains are scanned with such images first.
Each class is tested on its own, so that distractors are of its kind and chance is one half.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from brainit.experiments.findings import Findings, dots, headline, score_table
from brainit.experiments.image_scores import CHANCE, LATE, Estimate, difference, mean, read
from brainit.experiments.runs import retested
from brainit.run_folder import RunFolder
from brainit.stages.prepare import nsd_config, nsd_root
from brainit_clusters.data.dataset import BrainDataset
from brainit_clusters.data.nsd import ScanConfig, prepare_synthetic
from brainit_clusters.data.record import SubjectData
from brainit_eval.report import Figure

INFORMATION = Path("nsddata/experiments/nsdsynthetic/nsdsyntheticimageinformation.csv")
N_COMMON, N_OWN, N_SUBJECTS = 220, 64, 8
"""Images of all subjects; of each alone, numbered on subject by subject."""
PER_CLASS = 16
MEASURED = ("pixcorr", "two_way_early", LATE)


def run(base: RunFolder, out: Path, console: Console) -> Findings:
    """Decode images of each class, and hold them against shuffled fMRI."""
    root = _tree(base, out / "nsd-synthetic")
    path = out / "synthetic.h5"
    if not path.is_file():
        prepare_synthetic(root, path, _config(base), "crop")
    runs: dict[str, RunFolder] = {}
    missing: dict[str, int] = {}
    with BrainDataset.open(path) as dataset, _base_dataset(base) as own:
        subjects = {}
        for name in dataset.subjects:
            subjects[name], missing[name] = aligned(own.subject(name), dataset.subject(name))
        for label, ids in read_classes(root / INFORMATION).items():
            parts = {name: _of_class(subject, ids) for name, subject in subjects.items()}
            folder = out / label.lower().replace(" ", "-")
            runs[label] = retested(base, folder, parts, dataset, console)
    return findings(base, runs, missing)


def findings(base: RunFolder, runs: dict[str, RunFolder], missing: dict[str, int]) -> Findings:
    """What the scores by class say.

    Args:
        base: The run whose models were tested.
        runs: Class -> its run.
        missing: Subject -> voxels of the base without a response to these images.
    """
    usual = {"Images like those learnt from": base}
    tests = {
        f"{label}, {metric}: fused - shuffled": difference(
            read(one, "fused", metric), read(one, "shuffled", metric)
        )
        for label, one in runs.items()
        for metric in MEASURED
    }
    series: dict[str, dict[str, Estimate]] = {
        metric.removeprefix("two_way_"): {
            label: mean(read(one, "fused", metric)) for label, one in (usual | runs).items()
        }
        for metric in (LATE, "two_way_early")
    }
    rows = {label: (one, "fused") for label, one in (usual | runs).items()}
    controls = {f"{label}: shuffled fMRI": (one, "shuffled") for label, one in runs.items()}
    controls |= {f"{label}: true tokens": (one, "recovered") for label, one in runs.items()}
    caption = f"Fused images; {PER_CLASS} images a class and subject, distractors of the class."
    return Findings(
        title="Out of distribution",
        question="What is left of decoding for images unlike those that were learnt from?",
        runs=usual | runs,
        headline=[headline(label, value) for label, value in list(series["late"].items())[:5]],
        tables=[score_table(rows, caption=caption), score_table(controls, title="Controls")],
        figures=[
            Figure(
                "Identification within classes",
                "Distractors are of the image's own class; the line is chance.",
                dots(series, "two-way identification", CHANCE),
                wide=True,
            )
        ],
        tests=tests,
        sentences=[f"{name}: {test.verdict}." for name, test in tests.items()],
        limits=[
            "Classes differ in how alike their images are: their scores are not of one scale.",
            "Late features say little of noise, gratings and words, which hold no objects.",
        ],
        numbers={"voxels_without_response": missing},
    )


def aligned(own: SubjectData, new: SubjectData) -> tuple[SubjectData, int]:
    """A recording in the voxels of another, of the same subject on the same surface or volume.

    Args:
        own: Has the voxels that are wanted, in their order.
        new: Other responses.

    Returns:
        `new` with the voxels of `own`, at their mean (0) where it has none, and how many these are.
    """
    place = {key: column for column, key in enumerate(_keys(new))}
    column = np.array([place.get(key, -1) for key in _keys(own)])
    betas = np.where(column >= 0, new.betas[:, column], np.float32(0))
    found = replace(own, betas=betas, image_id=new.image_id, repeats=new.repeats, split=new.split)
    return found, int((column < 0).sum())


def _keys(subject: SubjectData) -> list[tuple[int, int]]:
    return list(zip(subject.hemisphere.tolist(), subject.vertex.tolist(), strict=True))


def read_classes(path: Path) -> dict[str, NDArray[np.int64]]:
    """Class -> ids of its images, of all subjects.

    Raises:
        FileNotFoundError: There is no such table.
        ValueError: It is not of 284 images.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected NSD-synthetic's table of image classes")
    with path.open(newline="", encoding="utf-8-sig") as file:
        names = [row["Image class"] for row in csv.DictReader(file)]
    if len(names) != N_COMMON + N_OWN:
        raise ValueError(f"{path}: {len(names)} images, expected {N_COMMON + N_OWN}")
    every = np.array(names[:N_COMMON] + N_SUBJECTS * names[N_COMMON:])
    return {name: np.flatnonzero(every == name) for name in dict.fromkeys(names)}


def _of_class(subject: SubjectData, ids: NDArray[np.int64]) -> SubjectData:
    rows = np.flatnonzero(np.isin(subject.image_id, ids))[:PER_CLASS]
    return replace(
        subject,
        betas=subject.betas[rows],
        image_id=subject.image_id[rows],
        repeats=subject.repeats[rows],
        split=subject.split[rows],
    )


def _tree(base: RunFolder, folder: Path) -> Path:
    """The NSD tree with NSD-synthetic in it, simulated where the base's is."""
    if base.profile.data.root:
        return nsd_root(base)
    if not (folder / INFORMATION).is_file():
        from brainit.simulation.synthetic import simulate_synthetic

        simulate_synthetic(folder, nsd_root(base))
    return folder


def _config(base: RunFolder) -> ScanConfig:
    config = nsd_config(base.profile)
    return ScanConfig(
        subjects=base.profile.evaluation.subjects,
        image_size=config.image_size,
        betas=config.betas,
        space=config.space,
        mask=config.mask,
    )


def _base_dataset(base: RunFolder) -> BrainDataset:
    return BrainDataset.open(base.output("prepare", "dataset"))
