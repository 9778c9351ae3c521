"""The simulated NSD: its files agree with each other, its brains with their description."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import scipy.io
import scipy.stats
from sklearn.linear_model import RidgeCV

from brainit.simulation import SimulationConfig, simulate
from brainit.simulation.areas import AREA_INDEX, AREAS, lay_out
from brainit.simulation.brains import TASTES, make_brain, noiseless_responses
from brainit.simulation.features import FREQUENCIES, N_ENERGY, ORIENTATIONS, scene_features
from brainit.simulation.scans import BETAS
from brainit.simulation.scenes import render
from brainit.simulation.trials import noise_ceiling_snr, record, trial_order

SMALL = SimulationConfig(
    n_subjects=2,
    own_images=14,
    shared_images=6,
    sessions=4,
    external_images=3,
    voxels=(300, 400),
    seed=7,
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("world") / "nsd", SMALL, progress=False)


@pytest.fixture
def truth(tree: Path) -> Iterator[h5py.File]:
    with h5py.File(tree / "ground_truth.h5") as file:
        yield file


def _overlay(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def _betas(tree: Path, subject: str, hemisphere: str) -> np.ndarray:
    folder = tree / "nsddata_betas/ppdata" / subject / "fsaverage" / BETAS
    files = sorted(folder.glob(f"{hemisphere}.betas_session*.mgh"))
    return np.concatenate([_overlay(f)[:, 0, 0].T for f in files])


def _design(tree: Path) -> dict[str, np.ndarray]:
    return scipy.io.loadmat(tree / "nsddata/experiments/nsd/nsd_expdesign.mat")


def test_same_seed_same_bytes(tree: Path, tmp_path: Path) -> None:
    again = simulate(tmp_path / "again", SMALL, progress=False)
    files = sorted(p.relative_to(tree) for p in tree.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    for file in files:
        assert (tree / file).read_bytes() == (again / file).read_bytes(), file
    hashes = json.loads((tree / "manifest.json").read_text())["sha256"]
    assert set(hashes) == {f.as_posix() for f in files} - {"manifest.json"}


def test_every_trial_names_the_same_image_everywhere(tree: Path) -> None:
    design = _design(tree)
    order, images = design["masterordering"].astype(int), design["subjectim"].astype(int)
    assert order.shape == (1, 60)
    assert images.shape == (2, 20)
    assert design["sharedix"].shape == (1, 6)
    assert (design["sharedix"].astype(int) == images[:, :6]).all()
    assert len(np.unique(images)) == SMALL.n_images
    assert images.min() == 1
    table = list(csv.DictReader((tree / "nsddata/experiments/nsd/nsd_stim_info_merged.csv").open()))
    for s in range(2):
        path = tree / f"nsddata/ppdata/subj{s + 1:02d}/behav/responses.tsv"
        rows = list(csv.DictReader(path.open(), delimiter="\t"))
        shown = images[s, order[0] - 1]
        assert [int(r["73KID"]) for r in rows] == shown.tolist()
        assert [int(r["SESSION"]) for r in rows] == np.repeat(np.arange(1, 5), 15).tolist()
        for trial, image in enumerate(shown):
            row = table[image - 1]
            assert str(trial + 1) in [row[f"subject{s + 1}_rep{k}"] for k in range(3)]
            assert row["nsdId"] == str(image - 1)
            assert (row["shared1000"] == "True") == (order[0, trial] <= 6)


def test_stimuli_are_the_scenes_of_the_seeds(tree: Path) -> None:
    with h5py.File(tree / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5") as file:
        bricks = file["imgBrick"]
        assert bricks.shape == (SMALL.n_images, 96, 96, 3)
        assert bricks.dtype == np.uint8
        assert (bricks[5] == render(7_000_005).image).all()
    with h5py.File(tree / "external/external_images.hdf5") as file:
        assert (file["images"][2] == render(7_000_000 + SMALL.n_images + 2).image).all()


def test_betas_cover_the_subjects_mask_and_noise_lies_outside(tree: Path, truth: h5py.File) -> None:
    for subject in ("subj01", "subj02"):
        for h, hemisphere in enumerate(("lh", "rh")):
            betas = _betas(tree, subject, hemisphere)
            assert betas.shape == (60, 10242)
            mine = truth[subject]["vertex"][truth[subject]["hemisphere"][:] == h]
            label = tree / f"nsddata/freesurfer/fsaverage/label/{hemisphere}.nsdgeneral.mgz"
            mask = _overlay(label).ravel() > 0
            finite = np.isfinite(betas)
            assert mask[mine].all()
            assert finite[:, ~mask].all()
            assert finite[:45].all(0)[mask].nonzero()[0].size == len(mine)
            assert finite[:45, mine].all()
            lost = (~finite[45:, mine]).any(0).sum()
            assert lost == (6 if subject == "subj02" else 0)


def test_betas_follow_the_noiseless_responses(tree: Path, truth: h5py.File) -> None:
    """Trial t holds image masterordering[t]: beta and truth correlate as the noise allows."""
    order = _design(tree)["masterordering"].astype(int)[0] - 1
    group = truth["subj01"]
    left = group["hemisphere"][:] == 0
    betas = _betas(tree, "subj01", "lh")[:, group["vertex"][:][left]]
    noiseless, noise_sd = group["noiseless"][:][:, left], group["noise_sd"][:][left]
    sessions = betas.reshape(4, 15, -1)
    z = (sessions - sessions.mean(1, keepdims=True)).reshape(60, -1)
    clean = np.argsort(noise_sd / noiseless.std(0))[:20]
    shown = [np.corrcoef(z[:, v], noiseless[order, v])[0, 1] for v in clean]
    shifted = [np.corrcoef(z[:, v], noiseless[np.roll(order, 1), v])[0, 1] for v in clean]
    # The best 20 of about 150 have an ncsnr above 0.9: r = ncsnr / sqrt(1 + ncsnr^2) > 0.67.
    assert np.mean(shown) > 0.5
    assert abs(np.mean(shifted)) < 0.25


def test_labels_are_the_true_areas(tree: Path, truth: h5py.File) -> None:
    group = truth["subj02"]
    names = np.array(truth.attrs["areas"])[group["area"][:]]
    for h, hemisphere in enumerate(("lh", "rh")):
        mine = group["hemisphere"][:] == h
        folder = tree / "nsddata/freesurfer/subj02/label"
        roi = _overlay(folder / f"{hemisphere}.prf-visualrois.mgz").ravel()[
            group["vertex"][:][mine]
        ]
        assert (np.isin(roi, [1, 2]) == (names[mine] == "V1")).all()
        assert ((roi == 7) == (names[mine] == "hV4")).all()
        y = group["centre"][:][mine, 1]
        assert np.median(y[roi == 1]) > 0.2
        assert np.median(y[roi == 2]) < -0.2
        ctab = (folder / "prf-visualrois.mgz.ctab").read_text().split("\n")
        assert ctab[1].startswith("1 V1v ")
        assert ctab[7].startswith("7 hV4 ")


def test_voxel_counts_and_receptive_fields() -> None:
    config = SimulationConfig()
    assert len(set(config.voxel_counts())) == 4
    brain = make_brain(config, 1)
    assert len(brain.areas) == config.voxel_counts()[1]
    x = np.where(brain.areas.hemisphere == 0, 1, -1) * brain.centre[:, 0]
    assert (
        x > 0
    ).mean() > 0.9  # the contralateral half; the angle's jitter puts a few across the midline
    medians = [
        np.median(brain.radius[brain.areas.area == AREA_INDEX[a]])
        for a in ("V1", "V2", "V3", "hV4")
    ]
    assert medians == sorted(medians)
    assert medians[3] > 2 * medians[0]
    again = lay_out(500, np.random.default_rng(3))
    shares = np.bincount(again.area, minlength=len(AREAS)) / 500
    expected = np.array([a.share for a in AREAS]) / sum(a.share for a in AREAS)
    np.testing.assert_allclose(
        shares, expected, atol=0.005
    )  # rounding of 17 areas in two hemispheres


def test_energy_channels_are_tuned_and_blind_to_sign() -> None:
    y, x = np.mgrid[:96, :96] / 96
    frequency, angle = FREQUENCIES[1], ORIENTATIONS[1]
    wave = 0.5 + 0.3 * np.cos(2 * np.pi * frequency * (np.cos(angle) * x - np.sin(angle) * y))
    images = np.stack([wave, 1 - wave])[..., None].repeat(3, -1)
    features = scene_features((images * 255).round().astype(np.uint8), [(), ()])
    energy = features.channels[:, :N_ENERGY]
    best = energy[0].mean(-1).argmax()
    assert divmod(int(best), len(ORIENTATIONS)) == (1, 1)
    # The negative differs by rounding to 1/255 and by the padding at the edge alone.
    np.testing.assert_allclose(energy[0, best], energy[1, best], rtol=0.02)


def test_category_voxels_prefer_their_objects_and_places() -> None:
    scenes = [render(500_000_000 + i) for i in range(200)]
    features = scene_features(np.stack([s.image for s in scenes]), [s.boxes for s in scenes])
    brain = make_brain(replace(SMALL, voxels=(1000, 1000)), 0)
    response = noiseless_responses(brain, features)
    assert (response >= 0).all()
    for area in ("FFA", "food", "PPA", "vehicles"):
        liked = {c for c, taste in TASTES[area].items() if taste >= 0.9}
        there = np.array([any(b.sprite.category in liked for b in s.boxes) for s in scenes])
        mean = response[:, brain.areas.area == AREA_INDEX[area]].mean(1)
        assert (
            scipy.stats.mannwhitneyu(mean[there], mean[~there], alternative="greater").pvalue < 1e-4
        )


def test_trial_order_spreads_repeats_and_ncsnr_is_recovered() -> None:
    config = SimulationConfig(own_images=380, shared_images=20, sessions=10)
    order = trial_order(config)
    assert (np.bincount(order) == 3).all()
    sessions = np.sort(
        np.argsort(order, kind="stable").reshape(-1, 3) // config.trials_per_session, 1
    )
    assert (np.diff(sessions, axis=1) > 0).all()
    rng = np.random.default_rng(5)
    recording = record(rng.normal(size=(400, 300)).astype(np.float32), order, config, rng)
    true = recording.noiseless.std(0) / recording.scale.noise_sd
    measured = noise_ceiling_snr(recording.betas, order, config.trials_per_session)
    # Drift (sd 0.06 of the noise) and 800 degrees of freedom of the noise variance: within 0.12.
    assert np.median(np.abs(measured - true)) < 0.12
    # Medians of 300 log-normal draws of spread 0.55 scatter by 4 %.
    assert 0.42 < np.median(measured) < 0.58
    assert (measured > 1).mean() > 0.05


def test_ridge_finds_pixels_about_as_hard_as_in_nsd() -> None:
    """PixCorr 0.3 to 0.5 from ridge on z-scored, averaged betas: 600 images train, 100 test."""
    config = SimulationConfig()
    scenes = [render(600_000_000 + i) for i in range(700)]
    images = np.stack([s.image for s in scenes])
    features = scene_features(images, [s.boxes for s in scenes])
    responses = noiseless_responses(make_brain(config, 2), features)
    order = trial_order(config)
    betas = record(responses, order, config, np.random.default_rng(0)).betas
    sessions = betas.reshape(10, 210, -1)
    z = ((sessions - sessions.mean(1, keepdims=True)) / sessions.std(1, keepdims=True)).reshape(
        betas.shape
    )
    mean = z[np.argsort(order, kind="stable")].reshape(700, 3, -1).mean(1)
    small = images.reshape(700, 32, 3, 32, 3, 3).mean((2, 4)).reshape(700, -1)
    ridge = RidgeCV(alphas=np.logspace(2, 5, 4)).fit(mean[100:], small[100:])
    guess = ridge.predict(mean[:100]).reshape(100, 32, 32, 3).clip(0, 255).repeat(3, 1).repeat(3, 2)
    pairs = zip(guess.reshape(100, -1), images[:100].reshape(100, -1), strict=True)
    assert 0.3 < np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]) < 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sessions": 11}, "sessions"),
        ({"seed": 1000}, "seed"),
        ({"repeats": 1}, "repeats"),
        ({"voxels": (400, 300)}, "voxels"),
        ({"ncsnr": 0.0}, "ncsnr"),
    ],
)
def test_impossible_worlds_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SimulationConfig(), **change)  # type: ignore[arg-type]


def test_a_folder_in_use_is_refused(tree: Path) -> None:
    with pytest.raises(FileExistsError, match="empty folder"):
        simulate(tree, SMALL, progress=False)
