"""The page one sends to a colleague: pictures, scores, the cortex, and how it was made."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from brainit.profile import Evaluation, dump_profile
from brainit.run_folder import RunFolder
from brainit.stages.images_io import read_arrays
from brainit_clusters.clusters import VoxelClusters
from brainit_clusters.data.dataset import BrainDataset
from brainit_clusters.encoder.score import fraction_of_ceiling
from brainit_clusters.plot import plot_clusters, plot_values
from brainit_eval.report import (
    Figure,
    Gallery,
    GalleryRow,
    Headline,
    Report,
    ScoreRow,
    ScoreTable,
    SettingsBlock,
    choose_rows,
    write_gallery,
    write_report,
)

KINDS = ("seen", "coarse", "semantic", "fused", "ridge")
METHODS = {
    "fused": ("Brain-IT, fused", "semantic branch started from the coarse image", False),
    "semantic": ("Brain-IT, semantic branch", "unCLIP from predicted CLIP tokens alone", False),
    "coarse": ("Brain-IT, low-level branch", "Deep Image Prior from predicted VGG features", False),
    "ridge": ("Ridge, fused", "ridge to coarse image and CLIP tokens, same diffusion model", False),
    "ridge_coarse": ("Ridge, coarse image", "ridge to pixels", False),
    "recovered": ("Recovered", "control: images from the true CLIP tokens, without a brain", True),
    "shuffled": ("Shuffled fMRI", "control: each brain's image held against another image", True),
}
RANKED_BY = "two_way_late"
CEILING_FLOOR = 0.1
ROWS = 9


def run(run: RunFolder, fingerprint: str) -> dict[str, Path]:
    """Write report.html and gallery.png."""
    scores = json.loads(run.output("evaluate", "scores").read_text())
    images = read_arrays(run.output("images", "reconstructions"))
    gallery = _gallery(images, _per_image(run))
    accuracy = read_arrays(run.output("evaluate", "encoder_accuracy"))
    n_images = len(np.unique(next(iter(images.values()))["image_id"]))
    simulated = run.profile.simulation is not None
    report = Report(
        title="Brain-IT: images reconstructed from fMRI",
        subtitle=(
            f"{len(images)} {'simulated ' if simulated else ''}subjects, "
            f"{n_images} {_which(run.profile.evaluation)} each, "
            f"profile {run.profile.name!r}"
        ),
        headline=_headline(scores, accuracy),
        galleries=[gallery],
        tables=[_table(scores, len(images), n_images, run.profile.evaluation)],
        figures=_figures(run, accuracy),
        settings=_settings(run),
        limits=_limits(simulated),
    )
    write_gallery(gallery, run.path / "gallery.png")
    return {
        "report": write_report(run.path / "report.html", report),
        "gallery": run.path / "gallery.png",
    }


def _per_image(run: RunFolder) -> dict[tuple[str, int], float]:
    with run.output("evaluate", "per_image").open() as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row["method"] == "fused" and row["repetition"] == "0"
        ]
    return {(row["subject"], int(row["image_id"])): float(row[RANKED_BY]) for row in rows}


def _gallery(
    images: dict[str, dict[str, np.ndarray]], score: dict[tuple[str, int], float]
) -> Gallery:
    keys, rows = list(score), []
    n_rows = min(ROWS, (len(keys) - 1) // 2 * 2 + 1)
    for index, label in choose_rows(list(score.values()), n_rows):
        subject, image = keys[index]
        place = int(np.flatnonzero(images[subject]["image_id"] == image)[0])
        pictures = {kind: images[subject][kind][place] for kind in KINDS}
        rows.append(GalleryRow(label, pictures, f"{subject}, image {image}"))
    return Gallery(
        KINDS,
        rows,
        rule="From the best to the worst fused image by two-way identification, late features.",
        notes={
            "coarse": "low-level branch",
            "semantic": "semantic branch",
            "fused": "both",
            "ridge": "baseline",
        },
    )


def _headline(scores: dict[str, Any], accuracy: dict[str, dict[str, np.ndarray]]) -> list[Headline]:
    late, coarse, chance = (
        scores["fused"][RANKED_BY],
        scores["coarse"]["pixcorr"],
        scores["shuffled"][RANKED_BY],
    )
    return [
        Headline(
            "two-way, late features",
            f"{late['value']:.1%}",
            f"95 %: {late['low']:.1%} to {late['high']:.1%}",
        ),
        Headline(
            "PixCorr, coarse image",
            f"{coarse['value']:.3f}",
            f"95 %: {coarse['low']:.3f} to {coarse['high']:.3f}",
        ),
        Headline("shuffled fMRI", f"{chance['value']:.1%}", "chance is 50 %"),
        Headline(
            "encoder", f"{_share_of_ceiling(accuracy):.0%}", "of the noise ceiling, median voxel"
        ),
    ]


def _share_of_ceiling(accuracy: dict[str, dict[str, np.ndarray]]) -> float:
    """Median over voxels with a ceiling of correlation over the highest to expect, sqrt(NC)."""
    shares = [
        fraction_of_ceiling(arrays["correlation"], arrays["noise_ceiling"], CEILING_FLOOR)
        for arrays in accuracy.values()
    ]
    return float(np.nanmedian(np.concatenate(shares)))


def _which(settings: Evaluation) -> str:
    """What was reconstructed, in words."""
    names = {"test": "held-out images", "val": "validation images", "train": "training images"}
    trials = ", from single trials" if settings.trials else ""
    samples = f", {settings.samples} samples" if settings.samples > 1 else ""
    return names[settings.split] + trials + samples


def _table(
    scores: dict[str, Any], n_subjects: int, n_images: int, settings: Evaluation
) -> ScoreTable:
    rows = [
        ScoreRow(label, scores[method], note, control)
        for method, (label, note, control) in METHODS.items()
        if method in scores
    ]
    caption = (
        f"Means over {n_subjects} subjects of {n_images} {_which(settings)}, with 95 % bootstrap "
        f"intervals ({settings.bootstrap} draws over images). Early and late: EfficientNet-Lite0 "
        "with ImageNet weights, which neither the simulation nor the decoder uses. CLIP: the "
        "decoder's own image model, a kinder judge."
    )
    return ScoreTable(rows, caption=caption)


def _figures(run: RunFolder, accuracy: dict[str, dict[str, np.ndarray]]) -> list[Figure]:
    clusters = VoxelClusters.load(run.output("clusters", "clusters"))
    with BrainDataset.open(run.output("prepare", "dataset")) as dataset:
        subjects = {name: dataset.subject(name) for name in dataset.subjects}
    first, *others = subjects
    figures = [
        Figure(
            f"Functional clusters, {name}",
            f"Each voxel of {name} in the colour of its cluster. The {clusters.n_clusters} "
            "clusters are shared by all subjects and know nothing of anatomy.",
            plot_clusters(subjects[name], clusters.labels_of(name)),
        )
        for name in (first, *others[:1])
    ]
    correlation = accuracy[first]["correlation"]
    figures.append(
        Figure(
            f"Encoder accuracy, {first}",
            "Correlation of predicted and measured responses to test images.",
            plot_values(subjects[first], correlation),
        )
    )
    figures.append(
        Figure(
            "Encoder against the noise ceiling",
            "Every dot is a voxel; the line is the most that a perfect model can expect to reach.",
            _ceiling_figure(accuracy),
        )
    )
    return figures


def _ceiling_figure(accuracy: dict[str, dict[str, np.ndarray]]) -> Any:
    figure, axes = plt.subplots(figsize=(5, 4.2), layout="constrained")
    for name, arrays in accuracy.items():
        axes.scatter(
            np.sqrt(arrays["noise_ceiling"]),
            arrays["correlation"],
            s=2,
            alpha=0.3,
            label=name,
            lw=0,
        )
    axes.plot([0, 1], [0, 1], color="0.3", lw=1)
    axes.set(
        xlabel="noise ceiling (correlation)",
        ylabel="encoder's test correlation",
        xlim=(0, 1),
        ylim=(-0.4, 1),
    )
    axes.legend(frameon=False, markerscale=4, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _settings(run: RunFolder) -> list[SettingsBlock]:
    minutes = {stage: f"{seconds:.0f} s" for stage, seconds in run.seconds().items()}
    return [
        SettingsBlock("Time per stage", minutes),
        SettingsBlock(
            "Provenance",
            {
                "seed": run.profile.seed,
                "git commit": run.manifest["git_commit"],
                **run.manifest["versions"],
            },
        ),
        SettingsBlock("Profile", text=dump_profile(run.profile)),
    ]


def _limits(simulated: bool) -> list[str]:
    limits = [
        "The diffusion model fills in what the brain does not tell: see the shuffled control, too."
    ]
    if simulated:
        limits.insert(
            0,
            "The scans are simulated, the models tiny: the scores say nothing about real brains.",
        )
    return limits
