"""What brain tokens hold: where image tokens look, what is lost without a cluster or an area."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure as Plot
from numpy.typing import NDArray
from rich.console import Console
from tqdm.auto import tqdm

from brainit.computing import device
from brainit.experiments.attention import (
    Maps,
    correlation,
    draw_maps,
    main_area,
    maps_of,
    share_left,
)
from brainit.experiments.findings import Findings, dots, headline
from brainit.experiments.image_scores import (
    Difference,
    Floats,
    ImageScores,
    difference,
    mean,
)
from brainit.experiments.lesions import TokenScorer, areas_of, as_many, lesioned, loss_by_kind
from brainit.experiments.scene_kinds import kinds_of
from brainit.run_folder import RunFolder
from brainit.stages import scans as scans_stage
from brainit.stages.images_io import as_float
from brainit.stages.scans import Scans
from brainit.stages.semantic import SemanticDecoder, load_clip
from brainit_bit.interpretation import attention_maps, on_voxels
from brainit_clusters.data.dataset import BrainDataset
from brainit_clusters.data.record import SubjectData
from brainit_clusters.plot import plot_values
from brainit_eval.report import Figure

CLEAR = ("higher", "lower")


@dataclass(frozen=True, eq=False)
class Measured:
    """Scores by decoded tokens, intact and with something left out, and the maps of attention.

    Attributes:
        subjects: By name.
        labels: Subject -> cluster of each voxel.
        intact: With all voxels.
        clusters: Without each cluster.
        areas: Without each area.
        controls: Without as many random voxels.
        maps: Of attention.
        on_voxels: From a value of each cluster to one of each voxel of the first subject.
    """

    subjects: Mapping[str, SubjectData]
    labels: Mapping[str, NDArray[np.int64]]
    intact: ImageScores
    clusters: Mapping[int, ImageScores]
    areas: Mapping[str, ImageScores]
    controls: Mapping[str, ImageScores]
    maps: Maps
    on_voxels: Callable[[Floats], Floats]

    @cached_property
    def main_areas(self) -> dict[int, str]:
        """The area that holds most of each cluster's voxels."""
        return {k: main_area(self.subjects, self.labels, k) for k in self.clusters}

    @cached_property
    def costs(self) -> dict[int, Difference]:
        """What the loss of each cluster costs."""
        return {k: difference(self.intact, part) for k, part in self.clusters.items()}


def run(base: RunFolder, out: Path, console: Console) -> Findings:
    """Read the semantic branch's attention, and leave out its clusters and the cortex's areas."""
    scans = scans_stage.load(base)
    with BrainDataset.open(base.output("prepare", "dataset")) as dataset:
        subjects = {name: dataset.subject(name) for name in scans}
        ids = np.unique(np.concatenate([own.image_id for own in scans.values()]))
        kinds = kinds_of(base, dataset, ids)
    return findings(base, measure(base, subjects, scans), kinds)


def measure(
    base: RunFolder, subjects: Mapping[str, SubjectData], scans: Mapping[str, Scans]
) -> Measured:
    """Score the semantic branch's tokens without each cluster and each area."""
    decoder, clip = SemanticDecoder.load(base), load_clip(base)
    model = decoder.model
    with torch.inference_mode():
        truth = {n: clip.encode(as_float(own.images)).float().cpu() for n, own in scans.items()}
    scorers = {name: TokenScorer(decoder, name, scans[name], truth[name]) for name in scans}
    labels = {name: model.voxels(name).labels.cpu().numpy() for name in scans}
    clusters = {
        k: lesioned(scorers, {n: [np.flatnonzero(labels[n] == k)] for n in scorers})
        for k in tqdm(range(model.config.n_clusters), desc="lesions of clusters", leave=False)
    }
    areas, controls = _areas(scorers, subjects)
    attention = [
        attention_maps(model, own.activations.to(device()), name) for name, own in scans.items()
    ]
    return Measured(
        subjects=subjects,
        labels=labels,
        intact=lesioned(scorers, {name: [np.empty(0, np.intp)] for name in scorers}),
        clusters=clusters,
        areas=areas,
        controls=controls,
        maps=maps_of(attention),
        on_voxels=partial(on_voxels, model, next(iter(scans))),
    )


def findings(base: RunFolder, found: Measured, kinds: Mapping[int, frozenset[str]]) -> Findings:
    """What was measured, in words, figures and numbers.

    Args:
        base: The run.
        found: What was measured.
        kinds: Image id -> kinds of object; empty if they are not known.
    """
    tests = {
        f"as many random voxels - without {area}": difference(found.controls[area], without)
        for area, without in found.areas.items()
    }
    left = np.array([share_left(found.subjects, found.labels, k) for k in found.clusters])
    crossed = correlation(left, found.maps.x)
    by_kind = {
        area: loss_by_kind(found.intact, without, kinds)
        for area, without in (found.areas if kinds else {}).items()
    }
    return Findings(
        title="What brain tokens hold",
        question="Where do image tokens look, and what is lost without a cluster or an area?",
        runs={"base": base},
        headline=[headline("two-way, CLIP tokens, intact", mean(found.intact))],
        figures=_figures(found, tests, by_kind),
        tests=tests,
        estimates={
            f"cost of cluster {k} ({found.main_areas[k]})": cost for k, cost in found.costs.items()
        },
        sentences=[
            "Correlation over clusters of the share of left-hemisphere voxels with how far right "
            f"image tokens look for it: {crossed:+.2f} (vision is crossed: above 0).",
            *(f"{name}: {t.verdict}." for name, t in tests.items() if t.verdict in CLEAR),
        ],
        limits=[
            "A lesion leaves voxels out of the attention; a brain would do otherwise.",
            "Scores are of decoded tokens, not of images; stage 2 is left aside.",
        ],
        numbers={
            "attention": found.maps.attention.round(5),
            "centre_x": found.maps.x,
            "centre_y": found.maps.y,
            "share_left": left,
            "crossed": crossed,
            "main_area": found.main_areas,
            "loss_by_area_and_kind": by_kind,
        },
    )


def _figures(
    found: Measured,
    tests: Mapping[str, Difference],
    by_kind: Mapping[str, Mapping[str, float]],
) -> list[Figure]:
    name, subject = next(iter(found.subjects.items()))
    cost = np.array([gap.value for gap in found.costs.values()])
    beyond = dict(zip(found.areas, tests.values(), strict=True))
    figures = [
        Figure(
            "Where image tokens look",
            "Attention to the clusters that are looked at most, over the places of the image; "
            "the area that holds most of a cluster's voxels.",
            draw_maps(found.maps, found.main_areas),
            wide=True,
        ),
        Figure(
            f"Places that clusters tell of, {name}",
            "Centre of each cluster's map from the left (-1) to the right (1) of the image, on "
            "its voxels.",
            plot_values(subject, found.on_voxels(found.maps.x), colours="coolwarm"),
        ),
        Figure(
            f"What a cluster's loss costs, {name}",
            "Fall of two-way identification by tokens without the cluster, on its voxels.",
            plot_values(subject, found.on_voxels(cost)),
        ),
        Figure(
            "What an area's loss costs",
            "Fall of two-way identification by tokens without an area, beyond that without as many "
            "random voxels, paired by image.",
            dots({"area": beyond}, "fall of two-way, CLIP tokens", 0.0),
            wide=True,
        ),
    ]
    if by_kind:
        caption = "Fall of two-way identification without an area, over images that show a kind."
        figures.append(Figure("Areas and kinds of object", caption, draw_table(by_kind)))
    return figures


def _areas(
    scorers: Mapping[str, TokenScorer], subjects: Mapping[str, SubjectData]
) -> tuple[dict[str, ImageScores], dict[str, ImageScores]]:
    """Scores without each area that all subjects have, and without as many random voxels."""
    found = {name: areas_of(subject) for name, subject in subjects.items()}
    shared = [a for a in next(iter(found.values())) if all(a in own for own in found.values())]
    areas, controls = {}, {}
    for area in tqdm(shared, desc="lesions of areas", leave=False):
        areas[area] = lesioned(scorers, {name: [found[name][area]] for name in scorers})
        draws = {n: as_many(subjects[n].n_voxels, found[n][area]) for n in scorers}
        controls[area] = lesioned(scorers, draws)
    return areas, controls


def draw_table(table: Mapping[str, Mapping[str, float]]) -> Plot:
    """Rows and columns as colours, red where something is lost."""
    columns = list(next(iter(table.values())))
    values = np.array([[row[column] for column in columns] for row in table.values()])
    top = max(float(np.abs(values).max()), 1e-6)
    size = (1.2 + 0.7 * len(columns), 1.2 + 0.3 * len(values))
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    image = axes.imshow(values, cmap="RdBu_r", vmin=-top, vmax=top, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
    axes.set_yticks(range(len(values)), list(table))
    figure.colorbar(image, label="fall of two-way identification")
    return figure
