"""Predict every subject's responses to images that nobody saw in the scanner."""

from __future__ import annotations

from pathlib import Path

import h5py

from brainit.computing import autocast
from brainit.run_folder import RunError, RunFolder
from brainit.stages import encoder as encoder_stage
from brainit_clusters.data.dataset import BrainDataset
from brainit_clusters.encoder.predict import predict_external


def run(run: RunFolder, fingerprint: str) -> dict[str, Path]:
    """Write external.h5: images and predicted responses."""
    source = run.profile.data.external
    path = Path(source) if source else run.world.output("simulate", "external")
    if not path.is_file():
        raise RunError(
            f"{path}: external images not found; expected an HDF5 file with /images uint8"
        )
    encoder = encoder_stage.load(run)
    with BrainDataset.open(run.output("prepare", "dataset")) as dataset:
        subjects = dataset.subjects
    started = run.path / "checkpoints" / f"external-{fingerprint[:12]}.h5"
    with (
        h5py.File(path, "r") as file,
        autocast(run.profile.encoder.training.precision),
    ):
        predict_external(started, encoder, file["images"], subjects, progress=True)
    return {"external": started.replace(run.path / "external.h5")}
