"""What every reader of own data hands over: single-trial betas and what each trial showed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from brainit_clusters.data.other.table import TrialTable
from brainit_clusters.data.places import Places


class Betas(Protocol):
    """Single-trial betas that are read in blocks of trials.

    Attributes:
        files: The files they come from.
    """

    files: tuple[Path, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """n_trials, n_voxels."""

    def read(self, trials: NDArray[np.intp]) -> NDArray[np.float32]:
        """A fresh float32 [n, n_voxels] of the given trials (0-based, ascending)."""


@dataclass(frozen=True, eq=False)
class TrialData:
    """One subject's single trials.

    Attributes:
        name: The subject's name.
        betas: Single-trial betas, in any unit.
        table: What each trial showed.
        places: Where the voxels lie.
        ncsnr: [n_voxels] noise-ceiling signal-to-noise ratio if known from elsewhere; otherwise
            it is estimated from the repeats.
        space: What `places` refer to, such as "fsaverage" or "volume".
    """

    name: str
    betas: Betas
    table: TrialTable
    places: Places
    ncsnr: NDArray[np.floating] | None = None
    space: str = "unknown"

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or self.name == ".":
            raise ValueError(f"subject name is {self.name!r}, expected a word without '/'")
        n_trials, n_voxels = self.betas.shape
        where = self.betas.files[0] if self.betas.files else f"{self.name}: betas"
        if len(self.table.session) != n_trials:
            raise ValueError(
                f"{where}: {n_trials} trials, {self.table.where} has {len(self.table.session)}"
            )
        if not n_voxels:
            raise ValueError(f"{where}: no voxels, expected at least one")
        for name, values in (
            ("vertex", self.places.vertex),
            ("hemisphere", self.places.hemisphere),
            ("ncsnr", self.ncsnr),
        ):
            if values is not None and values.shape != (n_voxels,):
                raise ValueError(
                    f"{self.name}: {name} has shape {values.shape}, expected ({n_voxels},): "
                    f"one a voxel of {where}"
                )


class Joined:
    """Betas of several files as one: after each other (more trials), or beside (more voxels)."""

    def __init__(self, parts: Iterable[Betas], *, beside: bool = False) -> None:
        self._parts = tuple(parts)
        self._beside = beside
        self.files = tuple(path for part in self._parts for path in part.files)
        first = self._parts[0]
        for part in self._parts[1:]:
            if part.shape[1 - beside] != first.shape[1 - beside]:
                what = "trials" if beside else "voxels"
                raise ValueError(
                    f"{part.files[0]}: {part.shape[1 - beside]} {what}, "
                    f"{first.files[0]} has {first.shape[1 - beside]}"
                )

    @property
    def shape(self) -> tuple[int, int]:
        """n_trials, n_voxels."""
        trials, voxels = zip(*(part.shape for part in self._parts), strict=True)
        return (trials[0], sum(voxels)) if self._beside else (sum(trials), voxels[0])

    def read(self, trials: NDArray[np.intp]) -> NDArray[np.float32]:
        """See `Betas.read`."""
        if self._beside:
            return np.concatenate([part.read(trials) for part in self._parts], axis=1)
        blocks, start = [], 0
        for part in self._parts:
            here = trials[(trials >= start) & (trials < start + part.shape[0])] - start
            if len(here):
                blocks.append(part.read(here))
            start += part.shape[0]
        return np.concatenate(blocks)
