"""Whether test images are among the training images: by id, by pixels, by nearness."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from brainit_eval.controls.neighbours import Neighbours
from brainit_eval.pictures.stream import PictureArray, batches
from brainit_eval.statistics.readings import Reading

NEAR = 0.05
"""Distance of thumbnails (1 - correlation) below which two pictures are taken for one."""

Identifier = int | str


@dataclass(frozen=True)
class Leak:
    """A test image that a training image shows too.

    Attributes:
        test_id: Its id.
        train_id: The id of the training image.
        found_by: ``id``, ``pixels`` or ``nearness``.
        distance: To it, 1 - correlation of features; None where that was not measured.
    """

    test_id: Identifier
    train_id: Identifier
    found_by: str
    distance: float | None = None


def picture_hashes(images: PictureArray) -> list[str]:
    """SHA-256 of every picture's size and 8-bit pixels: file names and formats do not count.

    Args:
        images: ``[n, 3, H, W]``, uint8 or float in [0, 1]; floats are rounded to 8 bits.

    Raises:
        ValueError: If the images are not as stated.
    """
    return [_hash(picture) for batch in batches(images) for picture in batch]


def find_leaks(
    test_ids: ArrayLike,
    train_ids: ArrayLike,
    *,
    test_hashes: list[str] | None = None,
    train_hashes: list[str] | None = None,
    neighbours: Neighbours | None = None,
    near: float = NEAR,
) -> list[Leak]:
    """Find test images that are in the training set; each is named once, by the surest evidence.

    Args:
        test_ids: ``[n]``, of one numbering with `train_ids` (in NSD the 73K ids).
        train_ids: ``[m]``.
        test_hashes: ``[n]`` from `picture_hashes`.
        train_hashes: ``[m]``, of pictures stored at the same size.
        neighbours: From `nearest` of test and training features, which also finds copies that
            were scaled or compressed anew.
        near: Distance in those features at which an image counts as the same.

    Returns:
        Leaks in the order of the test images.

    Raises:
        ValueError: If lengths differ, or only one side's hashes are given.
    """
    test, train = np.asarray(test_ids), np.asarray(train_ids)
    for name, values, size in (
        ("test_hashes", test_hashes, len(test)),
        ("train_hashes", train_hashes, len(train)),
        ("neighbours", None if neighbours is None else neighbours.index, len(test)),
    ):
        if values is not None and len(values) != size:
            raise ValueError(f"{name}: expected {size}, got {len(values)}")
    if (test_hashes is None) != (train_hashes is None):
        raise ValueError("hashes: expected those of both sets or of neither")
    places = {name: row for row, name in reversed(list(enumerate(train.tolist())))}
    pixels = {name: row for row, name in reversed(list(enumerate(train_hashes or [])))}
    leaks = []
    for row, name in enumerate(test.tolist()):
        distance = None if neighbours is None else float(neighbours.distance[row])
        if name in places:
            leaks.append(Leak(name, name, "id"))
        elif test_hashes is not None and test_hashes[row] in pixels:
            leaks.append(Leak(name, train[pixels[test_hashes[row]]].item(), "pixels"))
        elif neighbours is not None and distance is not None and distance <= near:
            leaks.append(Leak(name, train[neighbours.index[row]].item(), "nearness", distance))
    return leaks


def audit_overlap(leaks: list[Leak], n_test: int, neighbours: Neighbours | None = None) -> Reading:
    """The audit as a reading: how many test images are in the training set.

    Args:
        leaks: From `find_leaks`.
        n_test: Number of test images.
        neighbours: As given there; the quantiles of its distances join the detail.

    Returns:
        Number of leaked test images, green at 0. Detail: every leak, and the distances'
        quantiles 0, 0.05, 0.25, 0.5 and 1.
    """
    detail: dict[str, Any] = {"n": n_test, "leaks": [vars(leak) for leak in leaks]}
    if neighbours is not None:
        levels = (0, 0.05, 0.25, 0.5, 1)
        values = np.quantile(neighbours.distance, levels).tolist()
        detail["distance_quantiles"] = {str(q): v for q, v in zip(levels, values, strict=True)}
    return Reading(
        "overlap",
        "test images that are in the training set",
        value=float(len(leaks)),
        low=float("nan"),
        high=float("nan"),
        green=not leaks,
        rule="none by id, by pixels or by nearness",
        per_image=None if neighbours is None else neighbours.distance,
        detail=detail,
    )


def _hash(picture: Tensor) -> str:
    pixels = (picture.double() * 255).round().to(torch.uint8).cpu().contiguous()
    size = "x".join(map(str, pixels.shape)).encode()
    return hashlib.sha256(size + b":" + pixels.numpy().tobytes()).hexdigest()
