"""The same simulated brains, scanned with images unlike those that models learn from."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from brainit.experiments.scenes import INFORMATION, read_classes
from brainit.simulation import SimulationConfig, simulate
from brainit.simulation.artificial import DRAW
from brainit.simulation.brains import make_brain, noiseless_responses
from brainit.simulation.features import scene_features
from brainit.simulation.ground_truth import read_scale
from brainit.simulation.scenes import novel_sprites, render, sprites
from brainit.simulation.synthetic import CLASSES, OWN, REPEATS, simulate_synthetic
from brainit_clusters.data.dataset import BrainDataset
from brainit_clusters.data.nsd import ScanConfig, prepare_synthetic

WORLD = SimulationConfig(
    n_subjects=2, own_images=14, shared_images=6, sessions=4, external_images=3,
    voxels=(300, 400), seed=7,
)  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("world") / "nsd", WORLD, progress=False)


@pytest.fixture(scope="module")
def dataset(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    simulate_synthetic(folder / "nsd", world)
    config = ScanConfig(image_size=96, mask="nsdgeneral")
    return prepare_synthetic(folder / "nsd", folder / "synthetic.h5", config, "crop")


def test_novel_objects_are_of_no_known_category_and_leave_usual_scenes_alone() -> None:
    known = {sprite.category for sprite in sprites()}
    assert len(sprites()) == 80
    assert not known & {sprite.category for sprite in novel_sprites()}
    usual, novel = render(5), render(5, novel=True)
    assert {box.sprite.category for box in usual.boxes} <= known
    assert {box.sprite for box in novel.boxes} <= set(novel_sprites())
    places = [[(b.left, b.top, b.size) for b in scene.boxes] for scene in (usual, novel)]
    assert places[0] == places[1]


@pytest.mark.parametrize("name", DRAW)
def test_artificial_images_are_pure_and_differ(name: str) -> None:
    one, again, other = (DRAW[name](np.random.default_rng(seed), seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one.astype(int) - other).mean() > 1
    is_grey = (one == one[..., :1]).all()
    assert is_grey == (name != OWN)


def test_scale_brings_responses_to_the_worlds_own_units(world: Path) -> None:
    with h5py.File(world / "ground_truth.h5") as file:
        group = file["subj02"]
        ids, expected = group["image_id"][:], group["noiseless"][:]
    scenes = [render(WORLD.scene_seed(int(image))) for image in ids]
    features = scene_features(np.stack([s.image for s in scenes]), [s.boxes for s in scenes])
    found = noiseless_responses(make_brain(WORLD, 1), features)
    scale = read_scale(world / "ground_truth.h5", "subj02")
    np.testing.assert_allclose(scale.noiseless(found), expected, rtol=1e-6, atol=1e-6)


def test_the_reader_of_nsd_synthetic_reads_it(world: Path, dataset: Path) -> None:
    classes = read_classes(dataset.parent / "nsd" / INFORMATION)
    assert {name: len(ids) for name, ids in classes.items() if name != OWN} == CLASSES
    with BrainDataset.open(dataset) as data:
        assert data.subjects == ["subj01", "subj02"]
        subject = data.subject("subj01")
        assert set(subject.repeats) == {REPEATS}
        assert len(subject.image_id) == 220 + 64
        first = data.images(classes["Usual scenes"][:4])
    # Intensities are coarse where it is dark: below 16 of 255 a step of them is a jump of 16.
    seeds = [WORLD.scene_seed(WORLD.n_images + WORLD.external_images + i) for i in range(4)]
    shown = np.stack([render(seed).image for seed in seeds]).astype(int)
    assert np.abs(first - shown)[shown > 32].max() <= 4


def test_category_areas_are_silent_without_objects(world: Path, dataset: Path) -> None:
    classes = read_classes(dataset.parent / "nsd" / INFORMATION)
    with BrainDataset.open(dataset) as data:
        subject = data.subject("subj01")
    faces = subject.roi["floc-faces"] > 0
    response = {
        name: subject.betas[np.isin(subject.image_id, ids)].mean(0) for name, ids in classes.items()
    }
    assert response["Usual scenes"][faces].mean() > response["Novel objects"][faces].mean()
    assert response["Novel objects"][faces].mean() > response["Gratings"][faces].mean()
