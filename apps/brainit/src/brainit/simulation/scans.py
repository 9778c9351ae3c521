"""Scans of one subject: betas and noise on fsaverage, and in the other spaces on request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from brainit.simulation.areas import HEMISPHERES
from brainit.simulation.brains import Brain, noiseless_responses
from brainit.simulation.config import SimulationConfig
from brainit.simulation.features import SceneFeatures
from brainit.simulation.files import write_mgh
from brainit.simulation.routes import ROUTES, OwnVoxels
from brainit.simulation.trials import Recording, noise_ceiling_snr, record

N_VERTICES = 10242
BETAS = "betas_fithrf_GLMdenoise_RR"
N_LOST = 6
"""Vertices a hemisphere that the last subject lacks in its last session."""


def scan(
    output: Path,
    subject: int,
    brain: Brain,
    features: SceneFeatures,
    order: NDArray[np.int64],
    config: SimulationConfig,
    routes: Sequence[str],
) -> Recording:
    """Scan one subject and write its betas.

    Args:
        output: The tree.
        subject: Counted from 0.
        brain: The subject's brain.
        features: Of the subject's images.
        order: Position among its images of each trial.
        config: The world.
        routes: Spaces to write besides fsaverage.
    """
    rng = np.random.default_rng([config.seed, 5, subject])
    recording = record(noiseless_responses(brain, features), order, config, rng)
    last = subject == config.n_subjects - 1
    name = config.subject_name(subject)
    betas_of = output / "nsddata_betas/ppdata" / name
    folder = betas_of / "fsaverage" / BETAS
    mask = _label(output, "nsdgeneral")
    ncsnr = noise_ceiling_snr(recording.betas, order, config.trials_per_session)
    lost_of = []
    for h, hemisphere in enumerate(HEMISPHERES):
        mine = brain.areas.hemisphere == h
        vertex = brain.areas.vertex[mine]
        lost = rng.choice(vertex, N_LOST, replace=False) if last else vertex[:0]
        lost_of.append(lost)
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
    own = OwnVoxels(brain.areas, recording.betas, ncsnr, lost_of, config.trials_per_session)
    for number, (route, write) in enumerate(ROUTES.items()):
        if route in routes:
            write(output, name, betas_of / route / BETAS, own, [config.seed, 6, subject, number])
    return recording


def _label(output: Path, name: str) -> list[NDArray[np.int32]]:
    folder = output / "nsddata/freesurfer/fsaverage/label"
    images: list[Any] = [nibabel.load(folder / f"{h}.{name}.mgz") for h in HEMISPHERES]
    return [np.asarray(image.dataobj).ravel() for image in images]
