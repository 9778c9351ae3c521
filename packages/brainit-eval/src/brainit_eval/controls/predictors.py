"""Pictures that look at no brain: what they score is the floor of a metric."""

from __future__ import annotations

import torch
from torch import Tensor

from brainit_eval.controls.neighbours import Neighbours
from brainit_eval.pictures.stream import PictureArray, Taken, batches, picture_shape


def grey_images(like: PictureArray) -> Tensor:
    """Mid-grey pictures, ``[n, 3, H, W]`` float32, one storage behind all; SSIM likes them.

    Args:
        like: The images seen; only the shape counts.

    Raises:
        ValueError: If that is no shape of pictures.
    """
    return torch.full((1, 1, 1, 1), 0.5).expand(picture_shape(like, "like"))


def mean_images(train: PictureArray, n: int) -> Tensor:
    """The mean training image ``n`` times, ``[n, 3, H, W]`` float32, one storage behind all.

    Args:
        train: The training images, ``[m, 3, H, W]``; read in batches, summed in float64.
        n: How many are wanted.

    Raises:
        ValueError: If the images are not as stated.
    """
    total = torch.zeros(picture_shape(train, "train")[1:], dtype=torch.float64)
    for batch in batches(train, "train"):
        total += batch.sum(0, dtype=torch.float64).cpu()
    return (total / train.shape[0]).float().clamp(0, 1).expand(n, *total.shape)


def nearest_images(train: PictureArray, neighbours: Neighbours) -> Taken:
    """The nearest training image to each predicted feature vector, as a reconstruction.

    A decoder with a generator should beat this look-up; one that does not, recalls.

    Args:
        train: The training images, ``[m, 3, H, W]``.
        neighbours: From `nearest` of the predicted and the training features.

    Returns:
        A view ``[n, 3, H, W]`` that reads the images needed when it is sliced;
        ``nearest_images(...)[:]`` is the tensor.

    Raises:
        ValueError: If an index is beyond the training images.
    """
    return Taken(train, neighbours.index)
