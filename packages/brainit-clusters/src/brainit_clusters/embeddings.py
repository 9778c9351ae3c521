"""Voxel embeddings from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from brainit_clusters._files import existing


def load_embeddings(path: str | Path) -> dict[str, NDArray[np.float32]]:
    """Read voxel embeddings: a safetensors file with one tensor [N_s, E] a subject.

    Args:
        path: The file; the tensors' names are the subjects'.

    Returns:
        Subject -> float32 [N_s, E], by name.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is another kind of file, or a tensor is not [N_s >= 1, E] of floats,
            the subjects' widths differ, or an embedding is zero or not finite.
    """
    path = existing(Path(path), "voxel embeddings (safetensors, one tensor a subject)")
    embeddings = {}
    try:
        with safe_open(path, framework="numpy") as file:
            for name in sorted(file.keys()):
                embeddings[name] = file.get_tensor(name)
    except (SafetensorError, TypeError) as error:
        raise ValueError(f"{path}: holds no voxel embeddings ({error})") from error
    if not embeddings:
        raise ValueError(f"{path}: no tensors, expected one a subject")
    width = next(iter(embeddings.values())).shape[-1:]
    for name, values in embeddings.items():
        if values.ndim != 2 or not len(values) or not np.issubdtype(values.dtype, np.floating):
            raise ValueError(
                f"{path}: {name} is {values.dtype} {values.shape}, expected floats [n_voxels, E]"
            )
        if values.shape[1:] != width:
            raise ValueError(
                f"{path}: {name} has {values.shape[1]} values a voxel, others {width[0]}"
            )
        lengths = np.linalg.norm(values.astype(np.float64), axis=1)
        if n_wrong := int((~(np.isfinite(lengths) & (lengths > 0))).sum()):
            raise ValueError(
                f"{path}: {name}: {n_wrong} of {len(values)} voxels have an embedding that is "
                "zero or not finite"
            )
    return {name: values.astype(np.float32) for name, values in embeddings.items()}
