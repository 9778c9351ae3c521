"""What the simulation knows and no reader of the data may: ``ground_truth.h5``.

It is for tests, and for the simulation itself when the same brains are scanned again.

Attributes ``areas`` and ``scene_seed_of_image_0``; groups ``subj01`` and so on with vertex,
hemisphere, area (index into ``areas``), centre and radius of the receptive field (degrees),
channel_weight, object_weight, image_id, noiseless (percent signal change, rows as image_id),
noise_sd, and the group scale (`Scale`).
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
from numpy.typing import NDArray

from brainit.simulation.areas import AREAS
from brainit.simulation.brains import Brain
from brainit.simulation.config import SimulationConfig
from brainit.simulation.trials import Recording, Scale


class GroundTruth:
    """Writer of the ground truth; as a context manager it puts the file in place at the end.

    Args:
        path: File to write.
        config: The world.
    """

    def __init__(self, path: Path, config: SimulationConfig) -> None:
        self._path, self._config = path, config
        self._part = path.with_name(path.name + ".part")
        self._file = h5py.File(self._part, "w")
        self._file.attrs["areas"] = [a.name for a in AREAS]
        self._file.attrs["scene_seed_of_image_0"] = config.scene_seed(0)

    def add(
        self, subject: int, brain: Brain, recording: Recording, image_id: NDArray[np.int64]
    ) -> None:
        """Add one subject, counted from 0."""
        group = self._file.create_group(self._config.subject_name(subject))
        arrays = {
            "vertex": brain.areas.vertex,
            "hemisphere": brain.areas.hemisphere,
            "area": brain.areas.area,
            "centre": brain.centre,
            "radius": brain.radius,
            "channel_weight": brain.channel_weight,
            "object_weight": brain.object_weight,
            "image_id": image_id,
            "noiseless": recording.noiseless,
            "noise_sd": np.asarray(recording.scale.noise_sd, np.float32),
        }
        arrays |= {f"scale/{k}": values for k, values in asdict(recording.scale).items()}
        for name, values in arrays.items():
            group.create_dataset(name, data=values, track_times=False)

    def __enter__(self) -> GroundTruth:
        """Open for adding."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close; put the file in place unless there was an error."""
        self._file.close()
        if kind is None:
            os.replace(self._part, self._path)
        else:
            self._part.unlink()


def read_scale(path: Path, subject: str) -> Scale:
    """How a subject's voxels were scaled.

    Raises:
        ValueError: The file does not say, being of an older simulation.
    """
    with h5py.File(path, "r") as file:
        if "scale" not in file[subject]:
            raise ValueError(f"{path}: holds no scale of {subject}'s voxels; simulate anew")
        return Scale(**{name: values[:] for name, values in file[subject]["scale"].items()})
