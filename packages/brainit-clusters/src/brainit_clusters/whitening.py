"""Voxel embeddings as a start for other models: all directions and all voxels of equal weight."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainit_clusters.clusters import unit

_FLOOR = 1e-3


def whitened(
    embeddings: Mapping[str, ArrayLike], dim: int, length: float = 1.0
) -> dict[str, NDArray[np.float32]]:
    """Whiten the voxel embeddings of all subjects together and give every vector one length.

    An encoder's embeddings of voxels that lie in one cluster are close to parallel. Whitening
    spreads them, so that a model which sums embeddings weighted by activations can tell the voxels
    apart from its first step on.

    Args:
        embeddings: Per subject [N_s, E].
        dim: Width D of the result: the leading D principal directions, zeros beyond E.
        length: Euclidean length of every vector of the result.

    Returns:
        Per subject float32 [N_s, D].

    Raises:
        ValueError: An embedding is zero or not finite, or `dim` is below 1.
    """
    if dim < 1:
        raise ValueError(f"dim: expected 1 or more, got {dim}")
    points = {name: unit(values, name).astype(np.float64) for name, values in embeddings.items()}
    together = np.concatenate(list(points.values()))
    mean = together.mean(0)
    _, singular, directions = np.linalg.svd(together - mean, full_matrices=False)
    kept = min(dim, len(singular))
    scale = directions[:kept].T / (singular[:kept] + _FLOOR * singular[0])
    result = {}
    for name, values in points.items():
        spread = (values - mean) @ scale
        spread *= length / np.linalg.norm(spread, axis=1, keepdims=True)
        result[name] = np.pad(spread, ((0, 0), (0, dim - kept))).astype(np.float32)
    return result
