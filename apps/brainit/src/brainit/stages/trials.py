"""Single trials of the subjects that are reconstructed, beside the averages that models learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from brainit.run_folder import RunFolder
from brainit.stages.prepare import nsd_config, nsd_root
from brainit_clusters.data.nsd import prepare_nsd


def run(run: RunFolder, fingerprint: str) -> dict[str, Path]:
    """Write trials.h5: a row a trial, z-scored and split as in dataset.h5."""
    subjects = run.profile.evaluation.subjects
    config = replace(nsd_config(run.profile), subjects=subjects, repeats="trials")
    return {"dataset": prepare_nsd(nsd_root(run), run.path / "trials.h5", config)}
