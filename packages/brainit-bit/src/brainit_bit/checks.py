"""What may enter a model: one clear line for whatever may not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


def checked_labels(name: str, labels: ArrayLike, n_clusters: int) -> Tensor:
    """Cluster of every voxel of subject `name`, int64 [N] on the CPU.

    Raises:
        ValueError: If these are no integers [N], N >= 1, in [0, n_clusters).
    """
    array = labels.cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.ndim != 1 or array.dtype.kind not in "iu" or len(array) == 0:
        raise ValueError(
            f"labels of {name!r}: expected integers [N] with N >= 1, "
            f"got {array.dtype} {list(array.shape)}"
        )
    if array.min() < 0 or array.max() >= n_clusters:
        raise ValueError(
            f"labels of {name!r}: expected clusters in [0, {n_clusters}), "
            f"got {array.min()} to {array.max()}"
        )
    return torch.from_numpy(array.astype(np.int64))


def checked_activations(activations: object, subject: str, n_voxels: int) -> Tensor:
    """Voxel responses of one subject, [B, n_voxels].

    Raises:
        ValueError: If the shape is another or a value is not finite.
    """
    if not isinstance(activations, Tensor) or activations.shape[1:] != (n_voxels,):
        raise ValueError(
            f"activations of {subject!r}: expected [B, {n_voxels}], got {_form(activations)}"
        )
    # One pass over [B, N] tells; a NaN that went on would spoil every shared weight.
    finite = activations.detach().sum(dtype=torch.float64).isfinite()
    if not _holds(finite, f"activations of {subject!r}: expected finite values"):
        bad = int(activations.isfinite().logical_not().sum())
        raise ValueError(f"activations of {subject!r}: {bad} values are NaN or infinite")
    return activations


def checked_multiplicity(multiplicity: object, subject: str, activations: Tensor) -> Tensor:
    """How often each voxel was drawn, of the activations' shape.

    Raises:
        ValueError: If the shape is another or a value is negative or not finite.
    """
    if not isinstance(multiplicity, Tensor) or multiplicity.shape != activations.shape:
        raise ValueError(
            f"multiplicity of {subject!r}: expected {list(activations.shape)}, "
            f"got {_form(multiplicity)}"
        )
    counts = multiplicity.detach()
    wrong = f"multiplicity of {subject!r}: expected finite numbers >= 0"
    if not _holds(((counts >= 0) & (counts < torch.inf)).all(), wrong):
        raise ValueError(wrong)
    return multiplicity


def check_queries(queries: Tensor, batch: int, n_tokens: int) -> None:
    """Refuse numbers of query tokens that are not integers [Q] or [batch, Q] in [0, n_tokens).

    Raises:
        ValueError: See above. Masks are refused too: torch would index by them, not look up.
    """
    if queries.dtype not in (torch.int32, torch.int64) or queries.ndim not in (1, 2):
        raise ValueError(
            f"queries: expected int64 [Q] or [B, Q], got {queries.dtype} {list(queries.shape)}"
        )
    if queries.ndim == 2 and len(queries) != batch:
        raise ValueError(f"queries: expected {batch} rows, got {len(queries)}")
    wrong = f"queries: expected tokens in [0, {n_tokens})"
    if not _holds(((queries >= 0) & (queries < n_tokens)).all(), wrong):
        raise ValueError(f"{wrong}, got {int(queries.min())} to {int(queries.max())}")


def stacked(
    samples: Sequence[Tensor] | Tensor, rows: list[int], n_voxels: int, what: str
) -> Tensor:
    """The samples of one subject out of a batch that mixes subjects, [len(rows), n_voxels].

    Raises:
        ValueError: If a sample is not [n_voxels].
    """
    for row in rows:
        if samples[row].shape != (n_voxels,):
            raise ValueError(f"{what}[{row}]: expected [{n_voxels}], got {_form(samples[row])}")
    return torch.stack([samples[row] for row in rows])


def _holds(condition: Tensor, wrong: str) -> bool:
    """A condition on values; a compiled graph cannot branch on it and asserts it when it runs."""
    if torch.compiler.is_compiling():
        torch._assert_async(condition, wrong)
        return True
    return bool(condition)


def _form(value: object) -> str:
    return f"{list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
