"""Images between files (uint8 [n, H, W, 3]) and models (float32 [n, 3, H, W] in [0, 1])."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainit.run_folder import replacing


def as_float(images: NDArray[np.uint8] | Tensor) -> Tensor:
    """uint8 [n, H, W, 3] to float32 [n, 3, H, W] in [0, 1], on their device."""
    return torch.as_tensor(images).permute(0, 3, 1, 2).contiguous().float() / 255


def as_uint8(images: Tensor) -> NDArray[np.uint8]:
    """Float [n, 3, H, W] in [0, 1] to uint8 [n, H, W, 3], rounded."""
    scaled = (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    result: NDArray[np.uint8] = scaled.permute(0, 2, 3, 1).contiguous().numpy()
    return result


def write_arrays(path: Path, subjects: Mapping[str, Mapping[str, NDArray[Any]]]) -> Path:
    """Write named arrays per subject into one HDF5 file."""
    with replacing(path) as temporary, h5py.File(temporary, "w", track_order=True) as file:
        for subject, arrays in subjects.items():
            for name, values in arrays.items():
                file.create_dataset(f"{subject}/{name}", data=values, track_times=False)
    return path


def read_arrays(path: Path) -> dict[str, dict[str, NDArray[Any]]]:
    """Read what `write_arrays` wrote."""
    with h5py.File(path, "r") as file:
        return {
            subject: {name: item[()] for name, item in file[subject].items()} for subject in file
        }
