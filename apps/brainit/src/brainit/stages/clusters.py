"""Group the voxels of all subjects by their embeddings, or find the groups of a new subject's."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainit.run_folder import RunFolder
from brainit.stages import encoder as encoder_stage
from brainit.stages.places import by_place
from brainit_clusters.clusters import VoxelClusters, fit_clusters


def run(run: RunFolder, fingerprint: str) -> dict[str, Path]:
    """Write clusters.safetensors.

    In a run that adapts a base, it holds the new subject alone: each of its voxels is in the
    cluster of the base's most similar voxel, whose number is in `nearest`.
    """
    encoder = encoder_stage.load(run)
    embeddings = {
        name: encoder.voxel_embedding(name).detach().cpu().numpy() for name in encoder.subjects
    }
    path = run.path / "clusters.safetensors"
    if run.base is None:
        settings = run.profile.clusters
        fit = fit_clusters if settings.kind == "functional" else partial(by_place, run)
        fit(embeddings, settings.count, seed=run.profile.seed).save(path)
    else:
        known = VoxelClusters.load(run.base.output("clusters", "clusters"))
        clusters, nearest = _transferred(known, embeddings)
        clusters.save(path, {"nearest": nearest})
    return {"clusters": path}


def _transferred(
    known: VoxelClusters, embeddings: dict[str, NDArray[np.float32]]
) -> tuple[VoxelClusters, NDArray[np.int64]]:
    (new,) = embeddings.keys() - set(known.subjects)
    labels, nearest = known.assign(embeddings[new], embeddings)
    offsets = np.array([0, len(labels)])
    return replace(known, labels=labels, subject_offsets=offsets, subjects=(new,)), nearest
