"""The brains of a simulated world scanned once more, with images unlike those it was trained on.

Written in the layout of NSD-synthetic (Gifford et al., doi 10.1038/s41467-026-69345-9): 220 images
for all subjects and 64 for each alone, one session. Classes are this simulation's own. Category
areas answer to objects only: to none in gratings, noise and words, weakly to novel ones.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import scipy.io
from numpy.typing import NDArray

from brainit.simulation.areas import HEMISPHERES
from brainit.simulation.artificial import DRAW, Picture
from brainit.simulation.brains import Brain, make_brain, noiseless_responses
from brainit.simulation.config import SimulationConfig
from brainit.simulation.features import scene_features
from brainit.simulation.files import write_bytes, write_hdf5, write_mgh
from brainit.simulation.ground_truth import read_scale
from brainit.simulation.labels import write_labels
from brainit.simulation.scans import BETAS, N_VERTICES
from brainit.simulation.scenes import Box, render
from brainit.simulation.trials import scan_sessions

CLASSES = {"Usual scenes": 44, "Novel objects": 44, "Gratings": 44, "Noise": 44, "Words": 44}
"""Of the images that all subjects see."""
OWN = "Coloured noise"
N_OWN = 64
REPEATS = 3
INFORMATION = Path("nsddata/experiments/nsdsynthetic/nsdsyntheticimageinformation.csv")
_STIMULI = Path("nsddata_stimuli/stimuli/nsdsynthetic")


def simulate_synthetic(output: Path, world: Path) -> Path:
    """Render the images and scan the subjects of a world with them.

    Args:
        output: Folder of the tree.
        world: The tree that `simulate` wrote.

    Returns:
        ``output``.

    Raises:
        ValueError: The world was simulated by a version that did not keep what this needs.
    """
    config = _config(world)
    brains = [make_brain(config, s) for s in range(config.n_subjects)]
    write_labels(output / "nsddata/freesurfer", [brain.areas for brain in brains])
    common = [picture for name in CLASSES for picture in _pictures(config, name, CLASSES[name], 0)]
    _write_images(output / _STIMULI / "nsdsynthetic_stimuli.hdf5", [p for p, _ in common])
    order = np.random.default_rng([config.seed, 8]).permutation(
        np.tile(np.arange(len(common) + N_OWN), REPEATS)
    )
    _write_design(output, order)
    for subject, brain in enumerate(brains):
        name = config.subject_name(subject)
        own = list(_pictures(config, OWN, N_OWN, subject))
        path = output / _STIMULI / f"nsdsynthetic_colorstimuli_{name}.hdf5"
        _write_images(path, [p for p, _ in own])
        images = np.stack([_seen(picture) for picture, _ in common + own])
        features = scene_features(images, [boxes for _, boxes in common + own])
        scale = read_scale(world / "ground_truth.h5", name)
        rng = np.random.default_rng([config.seed, 9, subject])
        shown = scale.noiseless(noiseless_responses(brain, features))[order]
        betas = scan_sessions(shown, scale.noise_sd, len(order), rng)
        _write_betas(output, name, brain, betas)
    _write_classes(output / INFORMATION)  # last: the tree is whole where it is
    return output


def _config(world: Path) -> SimulationConfig:
    settings: dict[str, Any] = json.loads((world / "manifest.json").read_text())["config"]
    return SimulationConfig(**{**settings, "voxels": tuple(settings["voxels"])})


def _pictures(
    config: SimulationConfig, name: str, count: int, subject: int
) -> Iterator[tuple[Picture, tuple[Box, ...]]]:
    """Images of a class with the objects in them; scenes are none of the world's own."""
    first = config.n_images + config.external_images
    for number in range(count):
        if name in DRAW:
            rng = np.random.default_rng([config.seed, 10, list(DRAW).index(name), subject, number])
            yield DRAW[name](rng, number), ()
        else:
            novel = name == "Novel objects"
            scene = render(config.scene_seed(first + novel * count + number), novel)
            yield scene.image, scene.boxes


def _stored(picture: Picture) -> Picture:
    """As NSD-synthetic's files have it, which a linear display showed: in intensities."""
    stored: Picture = np.rint(np.square(picture, dtype=np.float64) / 255).astype(np.uint8)
    return stored


def _seen(picture: Picture) -> Picture:
    """What comes back of it: dark values are coarse in intensities."""
    seen: Picture = np.sqrt(255.0 * _stored(picture)).astype(np.uint8)
    return seen


def _write_images(path: Path, pictures: list[Picture]) -> None:
    write_hdf5(path, "imgBrick", np.stack([_stored(picture) for picture in pictures]))


def _write_design(output: Path, order: NDArray[np.int64]) -> None:
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"masterordering": (order + 1)[None].astype(float)})
    folder = output / INFORMATION.parent
    write_bytes(folder / "nsdsynthetic_expdesign.mat", buffer.getvalue())


def _write_classes(path: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["Image class"])
    for name, count in {**CLASSES, OWN: N_OWN}.items():
        writer.writerows([[name]] * count)
    write_bytes(path, text.getvalue().encode())


def _write_betas(output: Path, name: str, brain: Brain, betas: NDArray[np.float32]) -> None:
    folder = output / "nsddata_betas/ppdata" / name / "fsaverage" / f"nsdsynthetic{BETAS}"
    label = output / "nsddata/freesurfer/fsaverage/label"
    for side, hemisphere in enumerate(HEMISPHERES):
        mine = brain.areas.hemisphere == side
        mask = np.asarray(nibabel.load(label / f"{hemisphere}.nsdgeneral.mgz").dataobj).ravel()  # type: ignore[attr-defined]
        values = np.zeros((len(betas), N_VERTICES), np.float32)
        values[:, mask > 0] = np.nan
        values[:, brain.areas.vertex[mine]] = betas[:, mine]
        write_mgh(folder / f"{hemisphere}.betas_nsdsynthetic.mgh", values.T)
