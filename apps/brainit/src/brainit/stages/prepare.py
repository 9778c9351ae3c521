"""Read an NSD tree, simulated or real, into one dataset file."""

from __future__ import annotations

from pathlib import Path

from brainit.profile import Profile
from brainit.run_folder import RunFolder
from brainit_clusters.data.nsd import NSDConfig, prepare_nsd, trials_in


def run(run: RunFolder, fingerprint: str) -> dict[str, Path]:
    """Write dataset.h5."""
    config = nsd_config(run.profile)
    return {"dataset": prepare_nsd(nsd_root(run), run.path / "dataset.h5", config)}


def nsd_root(run: RunFolder) -> Path:
    """The tree that the profile names, or the simulated one."""
    root = run.profile.data.root
    return Path(root) if root else run.world.output("simulate", "root")


def nsd_config(profile: Profile) -> NSDConfig:
    """What the profile reads, and how."""
    data = profile.data
    return NSDConfig(
        subjects=data.subjects,
        image_size=data.image_size,
        betas=data.betas,
        space=data.space,
        mask=data.mask,
        trials=trials_in(data.minutes) if data.minutes else data.trials or None,
        draw=data.draw,
        normalisation=data.normalisation,  # type: ignore[arg-type] # NSDConfig checks it
        validation_fraction=data.validation_fraction,
        seed=profile.seed,
    )
