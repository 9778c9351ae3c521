"""Pictures that look at no brain: what they score is the floor of a metric."""

from __future__ import annotations

import torch
from torch import Tensor

from brainit_eval.detectors.stream import PictureArray, batches
from brainit_eval.neighbours import Neighbours


def grey_images(like: PictureArray) -> Tensor:
    """Mid-grey pictures, ``[n, 3, H, W]`` float32, one storage behind all; SSIM likes them.

    Args:
        like: The images seen; only the shape counts.
    """
    return torch.full((1, 1, 1, 1), 0.5).expand(tuple(like.shape))


def mean_images(train: PictureArray, n: int) -> Tensor:
    """The mean training image ``n`` times, ``[n, 3, H, W]`` float32, one storage behind all.

    Args:
        train: The training images, ``[m, 3, H, W]``; read in batches, summed in float64.
        n: How many are wanted.

    Raises:
        ValueError: If the images are not as stated.
    """
    total = torch.zeros(tuple(train.shape[1:]), dtype=torch.float64)
    for batch in batches(train, "train"):
        total += batch.sum(0, dtype=torch.float64).cpu()
    return (total / train.shape[0]).float().clamp(0, 1).expand(n, *total.shape)


def nearest_images(train: PictureArray, neighbours: Neighbours) -> Tensor:
    """The nearest training image to each predicted feature vector, as a reconstruction.

    A decoder with a generator should beat this look-up; one that does not, recalls.

    Args:
        train: The training images, ``[m, 3, H, W]``.
        neighbours: From `nearest` of the predicted and the training features.

    Returns:
        ``[n, 3, H, W]`` float in [0, 1]; only the images needed are read.

    Raises:
        ValueError: If an index is beyond the training images, or values are not as stated.
    """
    if neighbours.index.size and int(neighbours.index.max()) >= train.shape[0]:
        raise ValueError(
            f"train: expected more than {int(neighbours.index.max())} images, got {train.shape[0]}"
        )
    chosen = [next(batches(train[i : i + 1], "train")) for i in neighbours.index.tolist()]
    return torch.cat(chosen)
