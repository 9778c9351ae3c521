"""Read an NSD tree, simulated or real, into one dataset file."""

from __future__ import annotations

from pathlib import Path

from brainit.run_folder import RunFolder
from brainit_clusters.data.nsd import NSDConfig, prepare_nsd, trials_in


def run(run: RunFolder, fingerprint: str) -> dict[str, Path]:
    """Write dataset.h5."""
    data = run.profile.data
    root = Path(data.root) if data.root else run.world.output("simulate", "root")
    config = NSDConfig(
        subjects=data.subjects,
        image_size=data.image_size,
        betas=data.betas,
        space=data.space,
        mask=data.mask,
        trials=trials_in(data.minutes) if data.minutes else data.trials or None,
        draw=data.draw,
        normalisation=data.normalisation,  # type: ignore[arg-type] # NSDConfig checks it
        validation_fraction=data.validation_fraction,
        seed=run.profile.seed,
    )
    return {"dataset": prepare_nsd(root, run.path / "dataset.h5", config)}
