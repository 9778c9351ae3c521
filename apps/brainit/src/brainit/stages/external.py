"""Predict every subject's responses to images that nobody saw in the scanner."""

from __future__ import annotations

from pathlib import Path

import h5py

from brainit.precision import autocast
from brainit.run_folder import RunError, RunFolder
from brainit.stages import encoder as encoder_stage
from brainit.stages.images_io import as_float
from brainit_clusters.encoder.predict import predict_subjects, write_external


def run(run: RunFolder, fingerprint: str) -> dict[str, Path]:
    """Write external.h5: images and predicted responses."""
    source = run.profile.data.external
    path = Path(source) if source else run.output("simulate", "external")
    if not path.is_file():
        raise RunError(
            f"{path}: external images not found; expected an HDF5 file with /images uint8"
        )
    with h5py.File(path, "r") as file:
        images = file["images"][()]
    encoder = encoder_stage.load(run)
    with autocast(run.profile.encoder.training.precision):
        responses = predict_subjects(encoder, as_float(images), encoder.subjects, progress=True)
    output = run.path / "external.h5"
    write_external(output, images, responses)
    return {"external": output}
