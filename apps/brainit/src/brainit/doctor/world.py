"""How large the data of a profile are: from the prepared file, the raw files, or the simulation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from brainit.profile import Profile
from brainit_clusters.data.nsd.config import SESSIONS

NSD_VOXELS = 40_000
NSD_TRIALS = 750
NSD_REPEATS = 3
"""NSD's vertices a subject inside the mask that the paper uses, rounded up; trials a session; and
how often an image comes back: what is assumed of files that are not there yet."""


@dataclass(frozen=True)
class World:
    """Sizes that needs are computed from.

    Attributes:
        voxels: Of each subject.
        trials: Of each subject.
        rows: Distinct images of each subject, at most.
        images: Distinct images of all subjects, at most.
        external: External images; 0 where their file is not there.
        source: Where the sizes are from.
    """

    voxels: tuple[int, ...]
    trials: tuple[int, ...]
    rows: tuple[int, ...]
    images: int
    external: int
    source: str


def world_of(profile: Profile, run: Path | None) -> World:
    """The sizes of a profile's data, from the best source that there is."""
    dataset = run / "dataset.h5" if run is not None else None
    if dataset is not None and dataset.is_file():
        return _prepared(profile, dataset)
    return _simulated(profile) if profile.simulation is not None else _nsd(profile)


def _prepared(profile: Profile, path: Path) -> World:
    with h5py.File(path, "r") as file:
        groups = [file["subjects"][name] for name in file["subjects"]]
        shapes = [group["betas"].shape for group in groups]
        trials = tuple(int(group["repeats"][:].sum()) for group in groups)
        images = len(file["image_id"])
    rows, voxels = zip(*shapes, strict=True)
    return World(voxels, trials, rows, images, _external(profile), str(path))


def _simulated(profile: Profile) -> World:
    from brainit.simulation.config import SimulationConfig

    world = profile.simulation
    assert world is not None
    config = SimulationConfig(
        n_subjects=world.subjects,
        own_images=world.own_images,
        shared_images=world.shared_images,
        repeats=world.repeats,
        external_images=world.external_images,
        seed=profile.seed,
    )
    n = config.n_subjects
    return World(
        tuple(config.voxel_counts()),
        n * (config.n_trials,),
        n * (config.images_per_subject,),
        config.n_images,
        config.external_images,
        "the simulation's settings",
    )


def _nsd(profile: Profile) -> World:
    trials = tuple(NSD_TRIALS * SESSIONS[s - 1] for s in profile.data.subjects)
    rows = tuple(n // NSD_REPEATS for n in trials)
    found = [_mask(profile, s) for s in profile.data.subjects]
    voxels = tuple(n or NSD_VOXELS for n in found)
    source = "the mask's files" if all(found) else f"{NSD_VOXELS:,} voxels a subject, for now"
    return World(voxels, trials, rows, sum(rows), _external(profile), source)


def _mask(profile: Profile, subject: int) -> int | None:
    """Voxels of a subject's mask, if its files can be read."""
    from brainit_clusters.data.nsd.masks import read_mask
    from brainit_clusters.data.nsd.spaces import SPACES

    data = profile.data
    try:
        _, chosen = read_mask(Path(data.root), SPACES[data.space], subject, data.mask)
    except (OSError, ValueError):
        return None
    return int(np.size(chosen))


def _external(profile: Profile) -> int:
    path = Path(profile.data.external)
    if not path.is_file():
        return 0 if profile.simulation is None else profile.simulation.external_images
    with h5py.File(path, "r") as file:
        return int(file["images"].shape[0]) if "images" in file else 0
