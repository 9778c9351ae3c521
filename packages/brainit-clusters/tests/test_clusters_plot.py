# ruff: noqa: E402
"""Cortex pictures (extra `[plot]`)."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("matplotlib").use("Agg")
pytest.importorskip("nilearn")
pytest.importorskip("plotly")

from brainit_clusters import SubjectData
from brainit_clusters.plot import N_VERTICES, plot_clusters, plot_values, write_page

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


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


def test_voxels_of_volumes_are_not_drawn(subject):
    volume = replace(subject, hemisphere=np.full(subject.n_voxels, 2, np.uint8))
    with pytest.raises(ValueError, match="not vertices of a mesh"):
        plot_values(volume, np.zeros(subject.n_voxels))


def test_atlases_have_a_legend_of_what_is_there(subject):
    plt = pytest.importorskip("matplotlib.pyplot")
    figure = plot_clusters(subject, subject.hemisphere, names={0: "V1", 1: "V2", 2: "none"})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["V1", "V2"]
    plt.close(figure)


@pytest.mark.parametrize("categories", [True, False])
def test_page_holds_both_hemispheres_and_needs_no_network(subject, tmp_path, categories):
    values = subject.hemisphere.astype(int if categories else float)
    page = write_page(tmp_path / "map.html", subject, values, "Map", categories).read_text()
    # Nothing that a browser would fetch: scripts, styles and pictures are within.
    assert not re.search(r"<(script|img|iframe|link)\s[^>]*(src|href)=", page)
    assert len(page) < 5e6
    colours = re.findall("#[0-9a-f]{6}", re.search(r'"vertexcolor_both": \[(.*?)\]', page)[1])
    assert len(colours) == 2 * N_VERTICES
    left, right = (set(colours[part]) for part in (slice(N_VERTICES), slice(N_VERTICES, None)))
    # Every vertex has a voxel, so each hemisphere has one colour.
    assert len(left) == len(right) == 1
    assert left != right


def opened(page, folder):
    """What a browser makes of a page, and what it says in its console."""
    options = [
        f"--headless --no-sandbox --user-data-dir={folder / 'profile'}",
        "--use-angle=swiftshader --enable-unsafe-swiftshader",  # WebGL without a graphics card
        "--enable-logging=stderr --virtual-time-budget=8000 --dump-dom",
    ]
    call = [str(BROWSER), *" ".join(options).split(), page.as_uri()]
    done = subprocess.run(call, check=True, capture_output=True, text=True, timeout=120)
    said = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return done.stdout, [line for line in said if "willReadFrequently" not in line]  # a hint


@pytest.mark.skipif(BROWSER is None, reason="no chromium and no google-chrome on the path")
def test_page_opens_in_a_browser_without_an_error(subject, tmp_path):
    page = write_page(tmp_path / "map.html", subject, subject.hemisphere.astype(int), "Map", True)
    content, said = opened(page, tmp_path)
    assert said == []
    assert re.search(r'<canvas [^>]*width="[1-9]', content)  # drawn by its script
    page.write_text(page.read_text().replace("<script", "<script>nowhere()</script><script", 1))
    assert "nowhere is not defined" in opened(page, tmp_path)[1][0]
