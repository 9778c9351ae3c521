"""Predicted responses of every voxel to many images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from brainit_clusters.data.external import ExternalResponses, ExternalWriter, write_external
from brainit_clusters.data.writing import ImageArray
from brainit_clusters.encoder.model import BrainEncoder
from brainit_clusters.encoder.reading import read_in_threads

__all__ = [
    "ExternalResponses",
    "predict_external",
    "predict_responses",
    "predict_subjects",
    "read_voxels",
    "write_external",
]

# Images whose features wait together: folding a voxel costs as much as reading it for two images.
_CHUNK = 256
_VOXELS, _IMAGES = 2048, 32  # read at once where it is no CPU


def predict_responses(
    encoder: BrainEncoder,
    images: ImageArray | Tensor,
    subject: str,
    batch_size: int = 32,
    progress: bool = False,
    label: str = "predict",
) -> NDArray[np.float16]:
    """Responses of all voxels of one subject: float16 [n, N_s]; see `predict_subjects`."""
    return predict_subjects(encoder, images, [subject], batch_size, progress, label)[subject]


def predict_subjects(
    encoder: BrainEncoder,
    images: ImageArray | Tensor,
    subjects: Sequence[str],
    batch_size: int = 32,
    progress: bool = False,
    label: str = "predict",
) -> dict[str, NDArray[np.float16]]:
    """Responses of all voxels of several subjects to the same images, in memory.

    An image goes through the backbone once; voxels are folded once for 256 images and read in
    blocks. Runs where the encoder is, under the autocast of the caller; the encoder's mode is
    restored afterwards.

    Args:
        encoder: The encoder.
        images: uint8 [n, H, W, 3], or float [n, 3, H, W] in [0, 1].
        subjects: Names.
        batch_size: Images at a time in the backbone.
        progress: Show a progress bar, with images a second.
        label: What the bar says.

    Returns:
        name -> float16 [n, N_s].
    """
    results = {
        name: np.empty((images.shape[0], len(encoder.voxel_embedding(name))), np.float16)
        for name in subjects
    }
    chunks = _chunks(encoder, images, subjects, 0, batch_size, progress, label)
    for rows, _, responses in chunks:
        for name, values in responses.items():
            results[name][rows] = values
    return results


def predict_external(
    path: str | Path,
    encoder: BrainEncoder,
    images: ImageArray,
    subjects: Sequence[str] | None = None,
    batch_size: int = 32,
    progress: bool = False,
) -> Path:
    """Write predicted responses of all voxels to many images, a chunk of images at a time.

    120,000 images for 160,000 voxels are 38 GB; 256 images' share of it is in memory. What is
    there of an interrupted call is taken up again, and ends in the same numbers.

    Args:
        path: The file to write, for `ExternalResponses`.
        encoder: The encoder.
        images: uint8 [n, H, W, 3], an array or anything sliced like one, such as an HDF5 dataset.
        subjects: Names; None for all that the encoder knows.
        batch_size: Images at a time in the backbone.
        progress: Show a progress bar, with images a second.

    Raises:
        ValueError: if what is there of an interrupted call was to become another file.
    """
    names = encoder.subjects if subjects is None else subjects
    sizes = {name: len(encoder.voxel_embedding(name)) for name in names}
    with ExternalWriter(path, images.shape, sizes, _mark(encoder, images)) as writer:
        chunks = _chunks(encoder, images, names, writer.n_written, batch_size, progress)
        for _, chunk, responses in chunks:
            writer.write(np.asarray(chunk), responses)
    return Path(path)


@torch.inference_mode()
def read_voxels(encoder: BrainEncoder, features: list[Tensor], subject: str) -> Tensor:
    """Responses of all voxels of a subject, read in blocks.

    Args:
        encoder: The encoder, in evaluation mode.
        features: What `BrainEncoder.features` returned: [n, T, C] a tap.
        subject: Name of the subject.

    Returns:
        float32 [n, N_s].
    """
    embedding = encoder.voxel_embedding(subject)
    responses = embedding.new_zeros((len(features[0]), len(embedding)))
    if embedding.device.type == "cpu":
        read_in_threads(encoder, features, subject, responses)
        return responses
    voxels = torch.arange(len(embedding), device=embedding.device)
    for block, part in zip(voxels.split(_VOXELS), responses.split(_VOXELS, dim=1), strict=True):
        folded = encoder.fold(subject, block)
        for tap, values, known in zip(encoder.tap_list, features, folded, strict=True):
            for rows, images in zip(part.split(_IMAGES), values.split(_IMAGES), strict=True):
                rows += tap(images, known)
    return responses


def to_float(images: NDArray[np.uint8] | Tensor) -> Tensor:
    """uint8 [n, H, W, 3] to float32 [n, 3, H, W] in [0, 1]; a float tensor stays as it is."""
    if isinstance(images, Tensor):
        return images
    channels_first = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    return channels_first.contiguous().float() / 255


def _chunks(
    encoder: BrainEncoder,
    images: ImageArray | Tensor,
    subjects: Sequence[str],
    start: int,
    batch_size: int,
    progress: bool,
    label: str = "predict",
) -> Iterator[tuple[slice, NDArray[np.uint8] | Tensor, dict[str, NDArray[np.float16]]]]:
    """Chunks of images from `start` on: their rows, they, and the responses of each subject."""
    n_images, was_training = images.shape[0], encoder.training
    bar = tqdm(total=n_images, initial=start, desc=label, unit="image", disable=not progress)
    encoder.eval()
    try:
        with bar:
            for first in range(start, n_images, _CHUNK):
                rows = slice(first, min(first + _CHUNK, n_images))
                chunk = images[rows]
                yield rows, chunk, _predict(encoder, chunk, subjects, batch_size)
                bar.update(rows.stop - rows.start)
    finally:
        encoder.train(was_training)


@torch.inference_mode()
def _predict(
    encoder: BrainEncoder,
    images: NDArray[np.uint8] | Tensor,
    subjects: Sequence[str],
    batch_size: int,
) -> dict[str, NDArray[np.float16]]:
    device = encoder.readout_weight.device
    batches = [
        encoder.features(to_float(images[first : first + batch_size]).to(device))
        for first in range(0, len(images), batch_size)
    ]
    features = [torch.cat(parts) for parts in zip(*batches, strict=True)]
    return {name: read_voxels(encoder, features, name).half().cpu().numpy() for name in subjects}


def _mark(encoder: BrainEncoder, images: ImageArray) -> str:
    """What decides every number: weights, sizes, precision, and the images by first and last."""
    device = encoder.readout_weight.device.type
    precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    settings = (asdict(encoder.config), encoder.backbone.name, str(precision), images.shape)
    digest = hashlib.sha256(json.dumps(settings).encode())
    for name, value in encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    n_images = images.shape[0]
    for row in (0, n_images - 1):
        digest.update(np.asarray(images[slice(row, row + 1)]).tobytes())
    return digest.hexdigest()
