# ruff: noqa: E402
"""Cortex pictures (extra `[plot]`)."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib").use("Agg")
pytest.importorskip("nilearn")

from brainit_clusters import SubjectData
from brainit_clusters.plot import N_VERTICES, plot_clusters, plot_values


@pytest.fixture(scope="module")
def subject():
    vertex = np.tile(np.arange(N_VERTICES + 3000, dtype=np.int32), 2)
    n_voxels = len(vertex)
    return SubjectData(
        name="subj01",
        betas=np.zeros((1, n_voxels), np.float32),
        image_id=np.array([0]),
        repeats=np.array([1], np.int16),
        split=np.array(["train"]),
        vertex=vertex,
        hemisphere=np.repeat([0, 1], n_voxels // 2).astype(np.uint8),
        noise_ceiling=np.zeros(n_voxels, np.float32),
    )


def test_each_hemisphere_is_drawn_in_its_colour(subject, tmp_path):
    plt = pytest.importorskip("matplotlib.pyplot")
    figure = plot_clusters(subject, subject.hemisphere, tmp_path / "map.png", "Map")
    picture = plt.imread(tmp_path / "map.png")[..., :3]
    plt.close(figure)
    coloured = np.ptp(picture, axis=2) > 0.2  # the bare cortex is grey
    left, right = np.array_split(np.arange(len(picture)), 2)
    assert coloured[left].mean() > 0.1
    assert coloured[right].mean() > 0.1
    hues = [picture[rows][coloured[rows]].mean(axis=0).argmax() for rows in (left, right)]
    assert hues == [0, 2]  # the first cluster is red, the second blue
    with pytest.raises(ValueError, match="values have shape"):
        plot_values(subject, np.zeros(3))
