"""What brain tokens hold: where image tokens look, and what is lost without a cluster or an area.

Attention maps: Brain-IT (arXiv 2510.25976), image tokens to functional clusters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure as Plot
from rich.console import Console
from tqdm.auto import tqdm

from brainit.computing import device
from brainit.experiments.findings import Findings, dots, headline
from brainit.experiments.image_scores import CHANCE, Floats, ImageScores, difference, mean
from brainit.experiments.lesions import TokenScorer, areas_of, as_many, lesioned
from brainit.experiments.scene_kinds import kinds_of
from brainit.run_folder import RunFolder
from brainit.stages import scans as scans_stage
from brainit.stages.images_io import as_float
from brainit.stages.semantic import SemanticDecoder, load_clip
from brainit_bit.interpretation import attention_maps, on_voxels
from brainit_clusters.data.dataset import BrainDataset
from brainit_clusters.data.record import SubjectData
from brainit_clusters.plot import plot_values
from brainit_eval.report import Figure

CLEAR = ("higher", "lower")
SHOWN = 12
"""Clusters whose maps are drawn: those that are looked at most."""


@dataclass(frozen=True, eq=False)
class Maps:
    """Attention of image tokens to clusters, mean over blocks, images and subjects.

    Attributes:
        attention: float64 [side, side, K]; sums to 1 over clusters.
        x: Centre of a cluster's map from left (-1) to right (1), [K].
        y: From below (-1) to above (1), [K].
    """

    attention: Floats
    x: Floats
    y: Floats


def run(base: RunFolder, out: Path, console: Console) -> Findings:
    """Read the semantic branch's attention, and leave out its clusters and the cortex's areas."""
    decoder, clip = SemanticDecoder.load(base), load_clip(base)
    scans = scans_stage.load(base)
    with BrainDataset.open(base.output("prepare", "dataset")) as dataset:
        subjects = {name: dataset.subject(name) for name in scans}
        ids = np.unique(np.concatenate([own.image_id for own in scans.values()]))
        kinds = kinds_of(base, dataset, ids)
    with torch.inference_mode():
        truth = {n: clip.encode(as_float(t.images)).float().cpu() for n, t in scans.items()}
    scorers = {n: TokenScorer(decoder, n, scans[n], truth[n]) for n in scans}
    intact = lesioned(scorers, {name: [np.empty(0, np.intp)] for name in scorers})
    labels = {n: decoder.model.voxels(n).labels.cpu().numpy() for n in scans}
    n_clusters = decoder.model.config.n_clusters
    clusters = {
        k: lesioned(scorers, {n: [np.flatnonzero(labels[n] == k)] for n in scorers})
        for k in tqdm(range(n_clusters), desc="lesions of clusters", leave=False)
    }
    areas, controls = _areas(scorers, subjects)
    maps = maps_of(
        [attention_maps(decoder.model, t.activations.to(device()), n) for n, t in scans.items()]
    )
    costs = {k: difference(intact, part) for k, part in clusters.items()}
    tests = {f"as many random voxels - without {a}": difference(controls[a], areas[a])
             for a in areas}  # fmt: skip
    left = np.array([_share_left(subjects, labels, k) for k in range(n_clusters)])
    crossed = correlation(left, maps.x)
    first = next(iter(subjects))
    cost = np.array([costs[k].value for k in range(n_clusters)])
    names = {k: main_area(subjects, labels, k) for k in range(n_clusters)}
    drawn = subjects[first]
    figures = [
        Figure("Where image tokens look", "Attention to each of the clusters that are looked at "
               "most, over the places of the image; the area that holds most of its voxels.",
               draw_maps(maps, names), wide=True),
        Figure(f"Places that clusters tell of, {first}", "Centre of each cluster's map from the "
               "left (-1) to the right (1) of the image, on its voxels.",
               plot_values(drawn, on_voxels(decoder.model, first, maps.x), colours="coolwarm")),
        Figure(f"What a cluster's loss costs, {first}", "Fall of two-way identification by tokens "
               "without the cluster, on its voxels.",
               plot_values(drawn, on_voxels(decoder.model, first, cost))),
        Figure("What an area's loss costs", "Two-way identification by tokens without an area, "
               "and without as many random voxels; the line is chance.",
               dots({"without the area": {a: mean(s) for a, s in areas.items()},
                     "without as many": {a: mean(s) for a, s in controls.items()}},
                    "two-way, CLIP tokens", CHANCE), wide=True),
    ]  # fmt: skip
    by_kind = {a: loss_by_kind(intact, s, kinds) for a, s in areas.items()} if kinds else {}
    if by_kind:
        figures.append(
            Figure(
                "Areas and kinds of object",
                "Fall of two-way identification without an area, over images that show a kind.",
                draw_table(by_kind),
            )
        )
    return Findings(
        title="What brain tokens hold",
        question="Where do image tokens look, and what is lost without a cluster or an area?",
        runs={"base": base},
        headline=[headline("two-way, CLIP tokens, intact", mean(intact))],
        figures=figures,
        tests=tests,
        estimates={f"cost of cluster {k} ({names[k]})": costs[k] for k in costs},
        sentences=[
            "Correlation over clusters of the share of left-hemisphere voxels with how far right "
            f"image tokens look for it: {crossed:+.2f} (vision is crossed: above 0).",
            *(f"{name}: {t.verdict}." for name, t in tests.items() if t.verdict in CLEAR),
        ],
        limits=[
            "A lesion leaves voxels out of the attention; a brain would do otherwise.",
            "Scores are of decoded tokens, not of images.",
        ],
        numbers={
            "attention": maps.attention.round(5),
            "centre_x": maps.x,
            "centre_y": maps.y,
            "share_left": left,
            "crossed": crossed,
            "main_area": names,
            "loss_by_area_and_kind": by_kind,
        },
    )


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


def maps_of(attention: list[Floats]) -> Maps:
    """Average attention [blocks, Q, K] of several subjects, and find each cluster's centre."""
    together = np.mean([one.mean(0) for one in attention], axis=0)
    side = isqrt(len(together))
    place = (np.arange(side) + 0.5) / side * 2 - 1
    image = together.reshape(side, side, -1)
    share = image / image.sum((0, 1))
    x = np.einsum("yxk,x->k", share, place)
    return Maps(image, x, -np.einsum("yxk,y->k", share, place))


def correlation(one: Floats, other: Floats) -> float:
    """Pearson's, over what is known of both."""
    known = np.isfinite(one) & np.isfinite(other)
    return float(np.corrcoef(one[known], other[known])[0, 1])


def main_area(
    subjects: Mapping[str, SubjectData], labels: Mapping[str, Floats], cluster: int
) -> str:
    """The labelled area that holds most of a cluster's voxels; "-" if none holds any."""
    counts: dict[str, int] = {}
    for name, subject in subjects.items():
        own = np.flatnonzero(labels[name] == cluster)
        for area, voxels in areas_of(subject).items():
            counts[area] = counts.get(area, 0) + len(np.intersect1d(own, voxels))
    best = max(counts, key=lambda area: counts[area], default="-")
    return best if counts.get(best) else "-"


def _share_left(
    subjects: Mapping[str, SubjectData], labels: Mapping[str, Floats], cluster: int
) -> float:
    sides = np.concatenate(
        [subject.hemisphere[labels[name] == cluster] for name, subject in subjects.items()]
    )
    return float((sides == 0).mean()) if len(sides) else float("nan")


def loss_by_kind(
    intact: ImageScores, without: ImageScores, kinds: Mapping[int, frozenset[str]]
) -> dict[str, float]:
    """Fall of the score, mean over the images of all subjects that show a kind of object."""
    falls: dict[str, list[float]] = {}
    for name, row in intact.of_images().items():
        fall = row - without.of_images()[name]
        for image, value in zip(intact.ids[name].tolist(), fall.tolist(), strict=True):
            for kind in kinds[image]:
                falls.setdefault(kind, []).append(value)
    return {kind: float(np.mean(falls[kind])) for kind in sorted(falls)}


def draw_maps(maps: Maps, names: Mapping[int, str]) -> Plot:
    """Maps of the clusters that are looked at most."""
    order = np.argsort(-maps.attention.sum((0, 1)))[:SHOWN]
    figure, axes = plt.subplots(2, SHOWN // 2, figsize=(11, 4.2), layout="constrained")
    for ax in axes.flat:
        ax.axis("off")
    for ax, cluster in zip(axes.flat, order.tolist(), strict=False):
        ax.imshow(maps.attention[..., cluster], cmap="magma", vmin=0)
        ax.set_title(f"{cluster}: {names[cluster]}", fontsize=9)
    return figure


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
