"""Write a simulated world as a tree of files in the layout of the Natural Scenes Dataset (NSD).

Where the tree differs from NSD: stimuli are 96 px, the surface is fsaverage5 (10,242 vertices a
hemisphere) instead of fsaverage, and each subject's native surface is that same mesh. Mask vertices
that a subject lacks are NaN in all of its trials; the last subject lacks a few more in its last
session alone, as some NSD subjects do. Vertices outside the mask hold noise. Other spaces than
fsaverage are written on request; see `brainit.simulation.routes`.

Calibration, by ridge regression (scikit-learn ``RidgeCV``) from betas that are z-scored in each
session and averaged over repeats, 600 own images to train on and 100 shared ones to test:
PixCorr 0.47 and two-way identification 82 % (the third brain of seed 0, 2,400 vertices, scenes 0 to
699).
The first is the mean Pearson correlation of an image with its reconstruction (32 px, enlarged to
96); the second is two-way identification in the pooled features of EfficientNet-Lite0 (ImageNet
weights, 160 px): how often a predicted feature vector correlates better with its own image's than
with another test image's. The test suite repeats the first on one subject.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from brainit.__about__ import __version__
from brainit.simulation.brains import make_brain
from brainit.simulation.config import SimulationConfig
from brainit.simulation.design import subject_images, write_design
from brainit.simulation.features import scene_features
from brainit.simulation.files import write_bytes, write_hdf5
from brainit.simulation.ground_truth import GroundTruth
from brainit.simulation.labels import write_labels
from brainit.simulation.routes import ROUTES, check_routes
from brainit.simulation.scans import N_VERTICES, scan
from brainit.simulation.scenes import IMAGE_SIZE, Box, render
from brainit.simulation.trials import trial_order


def simulate(
    output: Path,
    config: SimulationConfig | None = None,
    progress: bool = True,
    routes: Sequence[str] = ("fsaverage",),
) -> Path:
    """Simulate a world and write it: an NSD tree, external scenes, the ground truth and a manifest.

    The same configuration gives the same bytes.

    Args:
        output: Folder to write; it must not exist or be empty.
        config: The world; by default four subjects of 700 images.
        progress: Show a progress bar.
        routes: The spaces that betas are written in: fsaverage always, and any of ``ROUTES``.

    Returns:
        ``output``.

    Raises:
        FileExistsError: If ``output`` holds anything.
        ValueError: If a route is unknown.
    """
    check_routes(routes)
    config = config or SimulationConfig()
    output = Path(output)
    if output.exists() and any(output.iterdir()):
        raise FileExistsError(f"{output}: expected an empty folder for the simulated NSD tree")
    output.mkdir(parents=True, exist_ok=True)
    images, boxes = _render(config, 0, config.n_images, progress, "scenes")
    external, _ = _render(
        config, config.n_images, config.external_images, progress, "external scenes"
    )
    write_hdf5(output / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5", "imgBrick", images)
    write_hdf5(output / "external/external_images.hdf5", "images", external)
    ids, order = subject_images(config), trial_order(config)
    write_design(output / "nsddata/experiments/nsd", ids, order, config)
    brains = [make_brain(config, s) for s in range(config.n_subjects)]
    write_labels(output / "nsddata/freesurfer", [b.areas for b in brains])
    features = scene_features(images, boxes)
    subjects = tqdm(brains, desc="brains", unit="subject", disable=not progress)
    with GroundTruth(output / "ground_truth.h5", config) as truth:
        for subject, brain in enumerate(subjects):
            recording = scan(output, subject, brain, features[ids[subject]], order, config, routes)
            truth.add(subject, brain, recording, ids[subject])
    _write_manifest(output, config, routes)
    return output


def holds(output: Path, config: SimulationConfig, routes: Sequence[str]) -> bool:
    """Whether a folder holds the whole world of these settings; its last file is the manifest."""
    path = output / "manifest.json"
    if not path.is_file():
        return False
    found = json.loads(path.read_text())
    same = found["config"] == json.loads(json.dumps(asdict(config)))
    return same and set(found.get("routes", ["fsaverage"])) == {"fsaverage", *routes}


def _render(
    config: SimulationConfig, first: int, count: int, progress: bool, what: str
) -> tuple[NDArray[np.uint8], list[tuple[Box, ...]]]:
    images = np.empty((count, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    boxes = []
    seeds = [config.scene_seed(first + i) for i in range(count)]
    with ProcessPoolExecutor() as pool:
        scenes = pool.map(render, seeds, chunksize=32)
        bar = tqdm(scenes, total=count, desc=what, unit="scene", disable=not progress)
        for i, scene in enumerate(bar):
            images[i] = scene.image
            boxes.append(scene.boxes)
    return images, boxes


def _write_manifest(output: Path, config: SimulationConfig, routes: Sequence[str]) -> None:
    files = sorted(p for p in output.rglob("*") if p.is_file())
    manifest = {
        "kind": "simulated NSD",
        "brainit": __version__,
        "config": asdict(config),
        "image_size": IMAGE_SIZE,
        "vertices_per_hemisphere": N_VERTICES,
        "sha256": {p.relative_to(output).as_posix(): _sha256(p) for p in files},
    }
    if further := [name for name in ROUTES if name in routes]:
        manifest["routes"] = ["fsaverage", *further]
    write_bytes(output / "manifest.json", (json.dumps(manifest, indent=1) + "\n").encode())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
