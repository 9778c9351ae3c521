"""Which clusters image tokens look at, from where in the image, and what these clusters are.

Attention maps: Brain-IT (arXiv 2510.25976), image tokens to functional clusters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure as Plot
from numpy.typing import NDArray

from brainit.experiments.image_scores import Floats
from brainit.experiments.lesions import areas_of
from brainit_clusters.data.record import SubjectData

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
    subjects: Mapping[str, SubjectData], labels: Mapping[str, NDArray[np.int64]], cluster: int
) -> str:
    """The labelled area that holds most of a cluster's voxels; "-" if none holds any."""
    counts: dict[str, int] = {}
    for name, subject in subjects.items():
        own = np.flatnonzero(labels[name] == cluster)
        for area, voxels in areas_of(subject).items():
            counts[area] = counts.get(area, 0) + len(np.intersect1d(own, voxels))
    best = max(counts, key=lambda area: counts[area], default="-")
    return best if counts.get(best) else "-"


def share_left(
    subjects: Mapping[str, SubjectData], labels: Mapping[str, NDArray[np.int64]], cluster: int
) -> float:
    """Share of a cluster's voxels, of all subjects, in the left hemisphere; NaN if it has none."""
    sides = np.concatenate(
        [subject.hemisphere[labels[name] == cluster] for name, subject in subjects.items()]
    )
    return float((sides == 0).mean()) if len(sides) else float("nan")


def draw_maps(maps: Maps, names: Mapping[int, str]) -> Plot:
    """Maps of the clusters that are looked at most."""
    order = np.argsort(-maps.attention.sum((0, 1)))[:SHOWN]
    figure, axes = plt.subplots(2, SHOWN // 2, figsize=(11, 4.2), layout="constrained")
    for ax in axes.flat:
        ax.axis("off")
    for ax, cluster in zip(axes.flat, order.tolist(), strict=False):
        ax.imshow(maps.attention[..., cluster], cmap="magma")
        ax.set_title(f"{cluster}: {names[cluster]}", fontsize=9)
    return figure
