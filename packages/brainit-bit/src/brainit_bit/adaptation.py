"""Adaptation of a trained model to a new subject."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from brainit_bit.model import BrainInteractionTransformer

_BLOCK = 2048


def nearest_voxels(new: ArrayLike, known: ArrayLike) -> NDArray[np.int64]:
    """For each new voxel the known voxel that responds most alike.

    Args:
        new: Some description of the new subject's voxels, [M, E]: embeddings of a voxel-wise
            encoder (Brain-IT, arXiv 2510.25976), responses to shared images, ...
        known: The same of the known voxels, [N, E].

    Returns:
        Numbers of the nearest rows of `known` by the distance of unit vectors, int64 [M].

    Raises:
        ValueError: If these are no two tables of one width, or a row is zero or not finite.
    """
    units = [_unit(new, "new"), _unit(known, "known")]
    if units[0].shape[1] != units[1].shape[1]:
        raise ValueError(
            f"new and known: expected one width, got {units[0].shape[1]} and {units[1].shape[1]}"
        )
    starts = range(0, len(units[0]), _BLOCK)  # never the whole [M, N] table of products
    nearest = [(units[0][i : i + _BLOCK] @ units[1].T).argmax(1) for i in starts]
    return np.concatenate(nearest).astype(np.int64)


def _unit(rows: ArrayLike, name: str) -> NDArray[np.float32]:
    array = np.asarray(rows, dtype=np.float32)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name}: expected [voxels, features], got {list(array.shape)}")
    length = np.linalg.norm(array, axis=1, keepdims=True)
    if not (np.isfinite(length).all() and length.all()):
        raise ValueError(f"{name}: expected finite rows that are not zero")
    unit: NDArray[np.float32] = array / length
    return unit


def add_subject_like(
    model: BrainInteractionTransformer,
    name: str,
    features: ArrayLike,
    known: Mapping[str, ArrayLike],
) -> None:
    """Make a new subject known, every voxel a copy of its nearest known one.

    A voxel takes the cluster and, as a start, the embedding of its nearest neighbour among all
    voxels of the subjects in `known` (Brain-IT, arXiv 2510.25976, transfer to new subjects).

    Args:
        model: A trained model.
        name: The new subject's name; a Python identifier.
        features: What `nearest_voxels` compares, [M, E], of the new subject's voxels.
        known: The same of known subjects, [N_s, E] by name, voxels in each subject's own order.

    Raises:
        ValueError: If a subject is unknown, the name is taken, or arrays do not fit.
    """
    if not known:
        raise ValueError("known: expected at least one subject")
    voxels = [model.voxels(one) for one in known]
    for (one, rows), have in zip(known.items(), voxels, strict=True):
        if len(np.asarray(rows)) != have.n_voxels:
            raise ValueError(
                f"known[{one!r}]: expected {have.n_voxels} rows, got {len(np.asarray(rows))}"
            )
    nearest = nearest_voxels(features, np.concatenate([np.asarray(r) for r in known.values()]))
    labels = torch.cat([one.labels for one in voxels])
    chosen = torch.from_numpy(nearest).to(labels.device)
    model.add_subject(name, labels[chosen], torch.cat([one.by_voxel() for one in voxels])[chosen])


def freeze_for_adaptation(model: BrainInteractionTransformer, subject: str) -> nn.Parameter:
    """Freeze everything but one subject's voxel embeddings.

    Source: Brain-IT (arXiv 2510.25976), transfer to new subjects.

    Args:
        model: A model to which `subject` was added.
        subject: The new subject's name.

    Returns:
        The one parameter that is left to train, [N_s, D]: give it alone to the optimiser, which
        then holds state for these rows only.

    Raises:
        ValueError: If the model does not know `subject`.
    """
    embedding = model.voxels(subject).embedding
    model.requires_grad_(False)
    model.zero_grad()  # of earlier training
    embedding.requires_grad_(True)
    return embedding
