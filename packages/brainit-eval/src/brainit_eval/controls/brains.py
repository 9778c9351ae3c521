"""Brains that tell nothing of the image, made from a lab's own betas.

Decode each as if it were the test set and score it against the same images. What remains is not
decoding: it is the generator's prior, the training images, or a leak.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike

from brainit_eval.controls.shuffles import derangement

BRAIN_CONTROLS: dict[str, str] = {
    "shuffled": "real brains of other test images: what the output scores whatever was seen",
    "wrong_subject": "another subject's brain of the same image: whether the subject's own "
    "functional layout is used, or only what subjects share",
    "mean": "one brain for all images: what the average response gives, and whether a decoder "
    "that ignores its input scores as well",
    "noise": "Gaussian noise with the covariance of real brains: what is made of an input that "
    "looks like a brain and holds no image",
}
"""What each brain control tests."""


def shuffled_brains(
    betas: np.ndarray, seed: int, image_ids: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Give every image the brain of another image, by a seeded derangement of the images.

    Repeats of an image stay together: all its rows get rows of one other image, so that averages
    over repeats remain averages over repeats.

    Args:
        betas: ``[n, voxels]``, one row per trial or per image.
        seed: Seed.
        image_ids: ``[n]`` ids of the images; without them every row is an image of its own.

    Returns:
        Betas ``[n, voxels]``, and the row that each came from, ``[n]``. Where the other image has
        fewer repeats, they are used again in turn.

    Raises:
        ValueError: If the betas are no finite table, ids do not fit, or there is only one image.
    """
    rows = _check_betas(betas)
    ids = _check_ids(image_ids, len(rows), "image_ids")
    names, image = np.unique(ids, return_inverse=True)
    other = derangement(len(names), torch.Generator().manual_seed(seed)).numpy()
    source = _matching_rows(names[other[image]], ids)
    return rows[source], source


def wrong_subject(
    betas: Mapping[str, np.ndarray], image_ids: Mapping[str, ArrayLike]
) -> dict[str, np.ndarray]:
    """Give every subject the next subject's brains of the same images; the last gets the first's.

    Args:
        betas: Per subject ``[n, voxels]`` in one common space, such as fsaverage vertices.
        image_ids: Per subject ``[n]`` ids of the images. The next subject must have seen them all.

    Returns:
        Per subject betas for its own decoder, in the order of its own rows.

    Raises:
        ValueError: If there are fewer than two subjects, their spaces differ in size, or the next
            subject has not seen an image.
    """
    subjects = list(betas)
    if len(subjects) < 2 or set(image_ids) != set(subjects):
        raise ValueError(
            f"wrong_subject: expected image ids of two subjects or more, got betas of "
            f"{', '.join(subjects)} and ids of {', '.join(image_ids)}"
        )
    rows = {name: _check_betas(values, name) for name, values in betas.items()}
    ids = {
        name: _check_ids(image_ids[name], len(rows[name]), f"image_ids of {name}") for name in rows
    }
    result = {}
    for own, other in zip(subjects, subjects[1:] + subjects[:1], strict=True):
        if rows[own].shape[1] != rows[other].shape[1]:
            raise ValueError(
                f"{other}: expected the {rows[own].shape[1]} voxels of {own}, "
                f"got {rows[other].shape[1]}; brains are exchanged in a common space only"
            )
        missing = np.setdiff1d(ids[own], ids[other])
        if missing.size:
            raise ValueError(f"{other}: has not seen image {missing[0]} of {own}")
        result[own] = rows[other][_matching_rows(ids[own], ids[other])]
    return result


def mean_brain(betas: np.ndarray, reference: np.ndarray | None = None) -> np.ndarray:
    """The mean brain in every row.

    A decoder that gives one output for it scores 0 in two-way identification, where ties fail.

    Args:
        betas: ``[n, voxels]``; its shape and type are kept.
        reference: ``[m, voxels]`` whose mean is taken: the training betas, better than the
            default, which are the betas themselves.

    Raises:
        ValueError: If an array is no finite table, or the voxels differ.
    """
    rows, source = _check_betas(betas), _check_reference(betas, reference)
    mean = source.mean(0, dtype=np.float64).astype(rows.dtype)
    return np.repeat(mean[None], len(rows), axis=0)


def noise_brain(betas: np.ndarray, seed: int, reference: np.ndarray | None = None) -> np.ndarray:
    """Gaussian noise with the mean and the covariance of real brains.

    Every row is the mean plus a random mixture of the centred reference rows. White noise would be
    unlike any brain, and a decoder that fails on it shows nothing.

    Args:
        betas: ``[n, voxels]``; its shape and type are kept.
        seed: Seed.
        reference: ``[m, voxels]`` whose mean and covariance are kept: the training betas, better
            than the default, which are the betas themselves.

    Raises:
        ValueError: If an array is no finite table, the voxels differ, or the reference has fewer
            than two rows.
    """
    rows, source = _check_betas(betas), _check_reference(betas, reference)
    if len(source) < 2:
        raise ValueError("noise_brain: expected a reference of 2 rows or more, got 1")
    mixture = np.random.default_rng(seed).standard_normal((len(rows), len(source)))
    mixture /= np.sqrt(len(source) - 1)
    # The mean plus a mixture of centred rows is one mixture of rows, with weights of sum 1.
    mixture += (1 - mixture.sum(1, keepdims=True)) / len(source)
    noise: np.ndarray = mixture.astype(source.dtype) @ source
    return noise.astype(rows.dtype)


def _matching_rows(wanted: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """For the k-th mention of an id in `wanted`, the row of its k-th mention in `ids`, in turn."""
    rows: dict[object, list[int]] = {}
    for row, name in enumerate(ids.tolist()):
        rows.setdefault(name, []).append(row)
    mentions: dict[object, int] = {}
    result = np.empty(len(wanted), dtype=np.int64)
    for place, name in enumerate(wanted.tolist()):
        count = mentions.get(name, 0)
        result[place] = rows[name][count % len(rows[name])]
        mentions[name] = count + 1
    return result


def _check_betas(betas: np.ndarray, name: str = "betas") -> np.ndarray:
    rows = np.asarray(betas)
    if rows.ndim != 2 or 0 in rows.shape or rows.dtype.kind != "f":
        raise ValueError(
            f"{name}: expected floating point [n, voxels], got {rows.dtype} {list(rows.shape)}"
        )
    if not np.isfinite(rows).all():
        bad = int((~np.isfinite(rows).all(1)).argmax())
        raise ValueError(f"{name}: row {bad} holds NaN or infinite values")
    return rows


def _check_reference(betas: np.ndarray, reference: np.ndarray | None) -> np.ndarray:
    source = _check_betas(betas if reference is None else reference, "reference")
    if source.shape[1] != betas.shape[1]:
        raise ValueError(f"reference: expected {betas.shape[1]} voxels, got {source.shape[1]}")
    return source


def _check_ids(image_ids: ArrayLike | None, n: int, name: str) -> np.ndarray:
    ids = np.arange(n) if image_ids is None else np.asarray(image_ids)
    if ids.shape != (n,):
        raise ValueError(f"{name}: expected {n} ids, got {list(ids.shape)}")
    return ids
