"""What `Tap` computes of all voxels and many images, on a CPU: a block of voxels a thread."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from brainit_clusters.encoder.model import BrainEncoder
from brainit_clusters.encoder.tap import FoldedTap, Tap

_VOXELS = 2048  # of a block


def read_in_threads(
    encoder: BrainEncoder, features: list[Tensor], subject: str, responses: Tensor
) -> None:
    """Add the responses of a subject's voxels, as the encoder has them in evaluation mode.

    Blocks of voxels are shared out among threads, as many as torch uses, each of which works alone:
    its core keeps what it reads in its own cache, and none waits for the others after each
    operation, as threads that share one operation do.

    Args:
        encoder: The encoder, on the CPU.
        features: [n, T, C] a tap.
        subject: Name of the subject.
        responses: [n, N_s], added to.
    """
    threads, n_voxels = torch.get_num_threads(), responses.shape[1]
    size = min(_VOXELS, math.ceil(n_voxels / threads))
    # Inference mode and autocast are a thread's own.
    precision, is_mixed = torch.get_autocast_dtype("cpu"), torch.is_autocast_enabled("cpu")

    def read(voxels: Tensor, part: Tensor) -> None:
        with torch.inference_mode(), torch.autocast("cpu", precision, is_mixed):
            _read_block(encoder, features, subject, voxels, part)

    blocks, parts = torch.arange(n_voxels).split(size), responses.split(size, dim=1)
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(read, blocks, parts))
    finally:
        torch.set_num_threads(threads)  # else threads to come would get one as well


def _read_block(
    encoder: BrainEncoder, features: list[Tensor], subject: str, voxels: Tensor, responses: Tensor
) -> None:
    """One block: what lies between an image and its responses is written over the last image's.

    Fresh memory costs more than the sums in it, as the system hands it out page by page.
    """
    hidden = encoder.config.mlp_ratio * encoder.config.channels
    widths = (*features[0].shape[1:], hidden)
    memory = [features[0].new_empty(len(voxels), width) for width in widths]
    folded = encoder.fold(subject, voxels)
    for tap, values, known in zip(encoder.tap_list, features, folded, strict=True):
        with torch.autocast("cpu", enabled=False):
            _read_tap(tap, values, known, memory, responses)


def _read_tap(
    tap: Tap, values: Tensor, voxels: FoldedTap, memory: list[Tensor], responses: Tensor
) -> None:
    """A tap's share; products with single images are plain matrices, the fastest on a CPU."""
    scores, attended, hidden = memory
    weight, bias = tap.fc1.weight.to(values.dtype).T, tap.fc1.bias.to(values.dtype)
    for image, row in zip(values, responses, strict=True):
        torch.addmm(voxels.position, voxels.query, image.T, out=scores)
        torch.softmax(scores, dim=1, out=scores)
        torch.mm(scores, image, out=attended)
        normed = tap.norm(attended)
        torch.addmm(bias, normed, weight, out=hidden)
        torch.ops.aten.gelu_(hidden)
        row += voxels.offset
        row += normed.mul_(voxels.direct).sum(dim=1)
        row += hidden.mul_(voxels.hidden).sum(dim=1)
