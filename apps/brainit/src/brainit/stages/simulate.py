"""Simulate scenes, brains and scans, written in the Natural Scenes Dataset's own layout."""

from __future__ import annotations

import shutil
from pathlib import Path

from brainit.run_folder import RunError, RunFolder


def run(run: RunFolder, fingerprint: str) -> dict[str, Path]:
    """Write the tree below the run folder, where it appears when it is whole."""
    from brainit.simulation.config import SimulationConfig
    from brainit.simulation.nsd_tree import holds, simulate

    world = run.profile.simulation
    assert world is not None  # the pipeline leaves this stage out of profiles without a simulation
    config = SimulationConfig(
        n_subjects=world.subjects,
        own_images=world.own_images,
        shared_images=world.shared_images,
        repeats=world.repeats,
        external_images=world.external_images,
        seed=run.profile.seed,
    )
    root, part = run.path / "nsd", run.path / ".nsd.part"
    if not holds(root, config, world.routes):
        if root.exists():
            raise RunError(f"{root}: holds other scans than the profile's; name another run folder")
        if part.exists():
            shutil.rmtree(part)  # what a killed run left
        simulate(part, config, routes=world.routes)
        part.rename(root)
    return {"root": root, "external": root / "external" / "external_images.hdf5"}
