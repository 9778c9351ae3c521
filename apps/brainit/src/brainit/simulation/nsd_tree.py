"""Write a simulated world as a tree of files in the layout of the Natural Scenes Dataset (NSD).

Where the tree differs from NSD: stimuli are 96 px, the surface is fsaverage5 (10,242 vertices a
hemisphere) instead of fsaverage, and each subject's native surface is that same mesh. Mask vertices
that a subject lacks are NaN in all of its trials; the last subject lacks a few more in its last
session alone, as some NSD subjects do. Vertices outside the mask hold noise.

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

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import scipy.io
from numpy.typing import NDArray
from tqdm import tqdm

from brainit.__about__ import __version__
from brainit.simulation.areas import HEMISPHERES
from brainit.simulation.brains import Brain, make_brain, noiseless_responses
from brainit.simulation.config import SimulationConfig
from brainit.simulation.features import SceneFeatures, scene_features
from brainit.simulation.ground_truth import GroundTruth
from brainit.simulation.labels import write_labels
from brainit.simulation.scenes import IMAGE_SIZE, Box, render
from brainit.simulation.trials import Recording, noise_ceiling_snr, record, trial_order

N_VERTICES = 10242
BETAS = "betas_fithrf_GLMdenoise_RR"
N_LOST = 6
"""Vertices a hemisphere that the last subject lacks in its last session."""
RESPONSE_COLUMNS = [
    "SUBJECT",
    "SESSION",
    "RUN",
    "TRIAL",
    "73KID",
    "10KID",
    "TIME",
    "ISOLD",
    "ISCORRECT",
    "RT",
    "CHANGEMIND",
    "MEMORYRECENT",
    "MEMORYFIRST",
    "ISOLDCURRENT",
    "ISCORRECTCURRENT",
    "TOTAL1",
    "TOTAL2",
    "BUTTON",
    "MISSINGDATA",
]


def simulate(output: Path, config: SimulationConfig | None = None, progress: bool = True) -> Path:
    """Simulate a world and write it: an NSD tree, external scenes, the ground truth and a manifest.

    The same configuration gives the same bytes.

    Args:
        output: Folder to write; it must not exist or be empty.
        config: The world; by default four subjects of 700 images.
        progress: Show a progress bar.

    Returns:
        ``output``.

    Raises:
        FileExistsError: If ``output`` holds anything.
    """
    config = config or SimulationConfig()
    output = Path(output)
    if output.exists() and any(output.iterdir()):
        raise FileExistsError(f"{output}: expected an empty folder for the simulated NSD tree")
    output.mkdir(parents=True, exist_ok=True)
    images, boxes = _render(config, 0, config.n_images, progress, "scenes")
    external, _ = _render(
        config, config.n_images, config.external_images, progress, "external scenes"
    )
    _write_images(output / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5", "imgBrick", images)
    _write_images(output / "external/external_images.hdf5", "images", external)
    ids, order = subject_images(config), trial_order(config)
    _write_design(output / "nsddata/experiments/nsd", ids, order, config)
    brains = [make_brain(config, s) for s in range(config.n_subjects)]
    write_labels(output / "nsddata/freesurfer", [b.areas for b in brains])
    features = scene_features(images, boxes)
    subjects = tqdm(brains, desc="brains", unit="subject", disable=not progress)
    with GroundTruth(output / "ground_truth.h5", config) as truth:
        for subject, brain in enumerate(subjects):
            recording = _scan(output, subject, brain, features[ids[subject]], order, config)
            truth.add(subject, brain, recording, ids[subject])
    _write_manifest(output, config)
    return output


def subject_images(config: SimulationConfig) -> NDArray[np.int64]:
    """0-based image ids of every subject, [n_subjects, images_per_subject], shared ones first."""
    ids = np.random.default_rng([config.seed, 4]).permutation(config.n_images)
    shared, own = np.split(ids, [config.shared_images])
    own = own.reshape(config.n_subjects, config.own_images)
    return np.concatenate([np.tile(np.sort(shared), (config.n_subjects, 1)), own], 1)


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


def _scan(
    output: Path,
    subject: int,
    brain: Brain,
    features: SceneFeatures,
    order: NDArray[np.int64],
    config: SimulationConfig,
) -> Recording:
    rng = np.random.default_rng([config.seed, 5, subject])
    recording = record(noiseless_responses(brain, features), order, config, rng)
    last = subject == config.n_subjects - 1
    name = config.subject_name(subject)
    folder = output / "nsddata_betas/ppdata" / name / "fsaverage" / BETAS
    mask = _label(output, "nsdgeneral")
    ncsnr = noise_ceiling_snr(recording.betas, order, config.trials_per_session)
    for h, hemisphere in enumerate(HEMISPHERES):
        mine = brain.areas.hemisphere == h
        vertex = brain.areas.vertex[mine]
        lost = rng.choice(vertex, N_LOST, replace=False) if last else vertex[:0]
        snr = np.where(mask[h] > 0, np.nan, 0).astype(np.float32)
        snr[vertex] = ncsnr[mine]
        snr[lost] = np.nan
        write_mgh(folder / f"{hemisphere}.ncsnr.mgh", snr)
        for session in range(config.sessions):
            trials = slice(
                session * config.trials_per_session, (session + 1) * config.trials_per_session
            )
            betas = rng.standard_normal((config.trials_per_session, N_VERTICES), np.float32)
            betas[:, mask[h] > 0] = np.nan
            betas[:, vertex] = recording.betas[trials][:, mine]
            if session == config.sessions - 1:
                betas[:, lost] = np.nan
            write_mgh(folder / f"{hemisphere}.betas_session{session + 1:02d}.mgh", betas.T)
    return recording


def _label(output: Path, name: str) -> list[NDArray[np.int32]]:
    folder = output / "nsddata/freesurfer/fsaverage/label"
    images: list[Any] = [nibabel.load(folder / f"{h}.{name}.mgz") for h in HEMISPHERES]
    return [np.asarray(image.dataobj).ravel() for image in images]


def write_mgh(path: Path, values: NDArray[np.float32]) -> None:
    """Write values [n_vertices] or [n_vertices, n_frames] as a FreeSurfer surface overlay."""
    image = nibabel.MGHImage(np.expand_dims(values, (1, 2)), np.eye(4))
    write_bytes(path, image.to_bytes())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, making its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)


def _write_images(path: Path, name: str, images: NDArray[np.uint8]) -> None:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", track_order=False) as file:
        file.create_dataset(name, data=images, track_times=False)
    write_bytes(path, buffer.getvalue())


def _write_design(
    folder: Path, ids: NDArray[np.int64], order: NDArray[np.int64], config: SimulationConfig
) -> None:
    design = {
        "masterordering": (order + 1)[None].astype(float),
        "subjectim": (ids + 1).astype(float),
        "sharedix": (ids[:1, : config.shared_images] + 1).astype(float),
    }
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, design, do_compression=True)
    # MATLAB files begin with 116 bytes of free text, where scipy writes the date.
    text = b"MATLAB 5.0 MAT-file, simulated by brainit".ljust(116)
    write_bytes(folder / "nsd_expdesign.mat", text + buffer.getvalue()[116:])
    _write_stimulus_table(folder / "nsd_stim_info_merged.csv", ids, order, config)
    behaviour = folder.parents[1] / "ppdata"
    for subject in range(config.n_subjects):
        rows = _trial_rows(subject, ids[subject], order, config)
        path = behaviour / config.subject_name(subject) / "behav/responses.tsv"
        write_bytes(path, _table(RESPONSE_COLUMNS, rows, "\t"))


def _trial_rows(
    subject: int, ids: NDArray[np.int64], order: NDArray[np.int64], config: SimulationConfig
) -> Iterator[list[object]]:
    """Rows of responses.tsv. No behaviour is simulated: what depends on button presses is NaN."""
    seen: dict[int, int] = {}
    for trial, image in enumerate(order.tolist()):
        session, k = divmod(trial, config.trials_per_session)
        run, place = divmod(k, -(-config.trials_per_session // 12))
        old, old_today = int(image in seen), int(seen.get(image, -1) == session)
        seen[image] = session
        where: list[object] = [
            subject + 1,
            session + 1,
            run + 1,
            place + 1,
            ids[image] + 1,
            image + 1,
        ]
        memory = ["NaN"] * 5
        yield [*where, "NaN", old, *memory, old_today, *["NaN"] * 4, 1]


def _write_stimulus_table(
    path: Path, ids: NDArray[np.int64], order: NDArray[np.int64], config: SimulationConfig
) -> None:
    subjects = range(config.n_subjects)
    trial_of = np.argsort(order, kind="stable").reshape(-1, config.repeats) + 1
    trials = np.zeros((config.n_images, config.n_subjects, config.repeats), int)
    for subject in subjects:
        trials[ids[subject], subject] = trial_of
    shared = np.isin(np.arange(config.n_images), ids[0, : config.shared_images])
    columns = [
        "cocoId",
        "cocoSplit",
        "cropBox",
        "loss",
        "nsdId",
        "flagged",
        "BOLD5000",
        "shared1000",
    ]
    columns += [f"subject{s + 1}" for s in subjects]
    columns += [f"subject{s + 1}_rep{r}" for s in subjects for r in range(config.repeats)]
    rows = (
        [
            i,
            config.scene_seed(i),
            "simulated",
            "(0, 0, 0, 0)",
            0.0,
            i,
            False,
            False,
            bool(shared[i]),
        ]
        + [int(trials[i, s].any()) for s in subjects]
        + trials[i].ravel().tolist()
        for i in range(config.n_images)
    )
    write_bytes(path, _table(["", *columns], rows, ","))


def _table(header: list[str], rows: Iterator[list[object]], separator: str) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=separator, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue().encode()


def _write_manifest(output: Path, config: SimulationConfig) -> None:
    files = sorted(p for p in output.rglob("*") if p.is_file())
    manifest = {
        "kind": "simulated NSD",
        "brainit": __version__,
        "config": asdict(config),
        "image_size": IMAGE_SIZE,
        "vertices_per_hemisphere": N_VERTICES,
        "sha256": {p.relative_to(output).as_posix(): _sha256(p) for p in files},
    }
    write_bytes(output / "manifest.json", (json.dumps(manifest, indent=1) + "\n").encode())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
