"""Simulate scenes, brains and scans, written in the Natural Scenes Dataset's own layout."""

from __future__ import annotations

from pathlib import Path

from brainit.run_folder import RunFolder


def run(run: RunFolder, fingerprint: str) -> dict[str, Path]:
    """Write the tree below the run folder."""
    from brainit.simulation.config import SimulationConfig
    from brainit.simulation.nsd_tree import simulate

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
    root = run.path / "nsd"
    simulate(root, config, routes=world.routes)
    return {"root": root, "external": root / "external" / "external_images.hdf5"}
