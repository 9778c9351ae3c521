"""What a trained model looks at: attention maps, lesions, gradient times input.

All results are NumPy arrays keyed by cluster [K], by voxel in the order in which the subject's
labels were given [N], and by query token [Q]: ready to be drawn on a cortex.
Source of the maps: Brain-IT (arXiv 2510.25976), attention of image tokens to functional clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from brainit_bit.model import BrainInteractionTransformer

Floats = NDArray[np.float64]


def attention_maps(
    model: BrainInteractionTransformer,
    activations: Tensor,
    subject: str,
    queries: Tensor | None = None,
    batch_size: int = 8,
) -> Floats:
    """How much each image token attends to each cluster, mean over images and heads.

    Args:
        model: A trained model.
        activations: Responses to n images, [n, N], in the subject's own voxel order.
        subject: Name of a known subject.
        queries: Numbers of the query tokens, int64 [Q]; None means all T.
        batch_size: Images in one forward pass, which holds every map of every image and head:
            7,190 tokens, 128 clusters, 8 heads and 6 blocks are 177 MB an image.

    Returns:
        One map for every cross block, [n_rounds + 1, Q, K]; every row sums to 1.

    Raises:
        ValueError: If there are no images, or as the model's forward does.
    """
    total: Tensor | float = 0.0
    with torch.no_grad():
        for x in _batches(activations, batch_size):
            maps = model(x, subject, queries=queries, return_attention=True).attention
            assert maps is not None
            total = total + torch.stack([one.mean(1, dtype=torch.float64).sum(0) for one in maps])
    assert isinstance(total, Tensor)
    return _array(total / len(activations))


def lesion_voxels(
    model: BrainInteractionTransformer,
    activations: Tensor,
    subject: str,
    lesions: Iterable[ArrayLike],
    queries: Tensor | None = None,
    batch_size: int = 8,
) -> Floats:
    """How predicted features change when voxels are left out of the attention.

    A voxel that is left out is one that was not drawn; a cluster that loses all its voxels keeps
    only its skip term.

    Args:
        model: A trained model.
        activations: Responses to n images, [n, N], in the subject's own voxel order.
        subject: Name of a known subject.
        lesions: For each of L lesions the numbers of the voxels that it leaves out, integers, in
            the subject's own order. Each costs one forward pass over all images.
        queries: Numbers of the query tokens, int64 [Q]; None means all T.
        batch_size: Images in one forward pass.

    Returns:
        Change of each token's features, mean of its square over images and features, [L, Q].

    Raises:
        ValueError: If there are no images, a voxel does not exist, or as the model's forward does.
    """
    n_voxels = model.voxels(subject).n_voxels
    parts = [_kept(lesion, n_voxels) for lesion in lesions]
    if not parts:
        raise ValueError("lesions: expected at least one")
    kept = torch.stack(parts).to(activations)
    changes: Tensor | float = 0.0
    with torch.no_grad():
        for x in _batches(activations, batch_size):
            intact = model(x, subject, queries=queries).features
            rows = []
            for one in kept:
                lesioned = model(x, subject, one.expand_as(x), queries).features
                rows.append((lesioned - intact).double().square().mean(-1).sum(0))
            changes = changes + torch.stack(rows)
    assert isinstance(changes, Tensor)
    return _array(changes / len(activations))


def lesion_clusters(
    model: BrainInteractionTransformer,
    activations: Tensor,
    subject: str,
    queries: Tensor | None = None,
    batch_size: int = 8,
) -> Floats:
    """How predicted features change when all voxels of a cluster are left out: see `lesion_voxels`.

    Returns:
        Change of each token's features by cluster, [K, Q]; 0 for a cluster without voxels.
    """
    labels = model.voxels(subject).labels
    clusters = range(model.config.n_clusters)
    lesions = [(labels == c).nonzero()[:, 0].cpu() for c in clusters]
    return lesion_voxels(model, activations, subject, lesions, queries, batch_size)


def gradient_times_input(
    model: BrainInteractionTransformer,
    activations: Tensor,
    subject: str,
    score: Callable[[Tensor], Tensor],
    queries: Tensor | None = None,
    batch_size: int = 8,
) -> Floats:
    """Each voxel's activation times the derivative of a score of the predicted features by it.

    Args:
        model: A trained model; its parameters gather no gradients here.
        activations: Responses to n images, [n, N], in the subject's own voxel order.
        subject: Name of a known subject.
        score: Maps features [B, Q, output_dim] to one number an image, [B]; for example
            ``lambda features: features[:, 3].square().sum(-1)``. An image's score may depend on its
            own features alone.
        queries: Numbers of the query tokens, int64 [Q]; None means all T.
        batch_size: Images in one forward pass.

    Returns:
        [n, N]; `cluster_totals` adds it up by cluster.

    Raises:
        ValueError: If there are no images, the score has another shape, or as the model's forward
            does.
    """
    rows = []
    for batch in _batches(activations, batch_size):
        x = batch.detach().requires_grad_()
        with torch.enable_grad():
            scores = score(model(x, subject, queries=queries).features)
            if scores.shape != x.shape[:1]:
                raise ValueError(f"score: expected [{len(x)}], got {list(scores.shape)}")
            (gradient,) = torch.autograd.grad(scores.sum(), x)
        rows.append((gradient * x.detach()).double())
    return _array(torch.cat(rows))


def cluster_totals(
    model: BrainInteractionTransformer, subject: str, voxel_values: ArrayLike
) -> Floats:
    """Add up values of a subject's voxels, [..., N], inside each cluster: [..., K].

    Raises:
        ValueError: If the subject is unknown or the last axis is not its voxels.
    """
    labels = model.voxels(subject).labels.cpu().numpy()
    values = _last_axis(voxel_values, len(labels), f"voxels of {subject!r}")
    member = labels[:, None] == np.arange(model.config.n_clusters)
    totals: Floats = values @ member.astype(np.float64)
    return totals


def on_voxels(
    model: BrainInteractionTransformer, subject: str, cluster_values: ArrayLike
) -> Floats:
    """Give every voxel of a subject its cluster's value: [..., K] to [..., N].

    Raises:
        ValueError: If the subject is unknown or the last axis is not the clusters.
    """
    labels = model.voxels(subject).labels.cpu().numpy()
    return _last_axis(cluster_values, model.config.n_clusters, "clusters")[..., labels]


def _batches(activations: Tensor, batch_size: int) -> Iterator[Tensor]:
    if activations.ndim != 2 or len(activations) == 0:
        raise ValueError(f"activations: expected [n, N] with n >= 1, got {list(activations.shape)}")
    yield from activations.split(batch_size)


def _kept(lesion: ArrayLike, n_voxels: int) -> Tensor:
    voxels = np.asarray(lesion)
    whole = voxels.dtype.kind in "iu" or voxels.size == 0
    if voxels.ndim != 1 or not whole or (voxels.size and not _within(voxels, n_voxels)):
        raise ValueError(f"lesions: expected lists of voxels in [0, {n_voxels})")
    kept = torch.ones(n_voxels)
    kept[torch.from_numpy(voxels.astype(np.int64))] = 0
    return kept


def _within(voxels: NDArray[np.integer], n_voxels: int) -> bool:
    return bool(voxels.min() >= 0 and voxels.max() < n_voxels)


def _last_axis(values: ArrayLike, length: int, what: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] != length:
        raise ValueError(f"values: expected [..., {length}], the {what}, got {list(array.shape)}")
    return array


def _array(values: Tensor) -> Floats:
    result: Floats = values.detach().cpu().double().numpy()
    return result
