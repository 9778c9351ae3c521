"""Group the voxels of all subjects by their embeddings."""

from __future__ import annotations

from pathlib import Path

from brainit.run_folder import RunFolder
from brainit.stages import encoder as encoder_stage
from brainit_clusters.clusters import fit_clusters


def run(run: RunFolder, fingerprint: str) -> dict[str, Path]:
    """Write clusters.safetensors."""
    encoder = encoder_stage.load(run)
    embeddings = {
        name: encoder.voxel_embedding(name).detach().cpu().numpy() for name in encoder.subjects
    }
    clusters = fit_clusters(embeddings, run.profile.clusters.count, seed=run.profile.seed)
    path = run.path / "clusters.safetensors"
    clusters.save(path)
    return {"clusters": path}
