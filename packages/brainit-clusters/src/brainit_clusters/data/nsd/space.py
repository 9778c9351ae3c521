"""What a space of NSD's betas is: it says where its files are, and reads them.

Nothing else in the reader knows which space it is in. The places of a space are numbered through:
vertices of the left, then of the right hemisphere, or cells of the volume, last axis fastest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from brainit_clusters.data.places import Places

SCALE = 300
"""NSD's integer files hold 300 times the percent signal change."""
_LARGEST_MAP = 2**25
Files = tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class Map:
    """One value a place.

    Attributes:
        values: [n_places].
        shape: Vertices of the left and the right hemisphere, or cells along X, Y, Z.
        affine: float64 [4, 4], from cells to millimetres; None on surfaces.
    """

    values: NDArray[Any]
    shape: tuple[int, ...]
    affine: NDArray[np.float64] | None = None


class Space(Protocol):
    """A space; `Files` are one file, or the left and the right hemisphere's."""

    @property
    def name(self) -> str:
        """NSD's name of it."""

    def label_files(self, root: Path, subject: int, atlas: str) -> Files:
        """Where an atlas is."""

    def atlases(self, root: Path, subject: int) -> list[str]:
        """Names of all label files, sorted."""

    def colour_table(self, root: Path, subject: int, atlas: str) -> Path:
        """Where the names of an atlas's labels are."""

    def own_files(self, pattern: str) -> Files:
        """A user's map: `?h.` in it stands for both hemispheres."""

    def noise_files(self, folder: Path) -> Files:
        """Where a beta version's noise-ceiling signal-to-noise ratios are."""

    def beta_files(self, folder: Path, stem: str) -> Files:
        """Where betas are, such as those of stem "betas_session01"."""

    def read_map(self, files: Files, what: str) -> Map:
        """Read one value a place.

        Raises:
            FileNotFoundError, ValueError: naming the file.
        """

    def check_betas(self, files: Files, shape: tuple[int, ...], n_trials: int) -> None:
        """Check headers and sizes of betas, without reading them.

        Raises:
            FileNotFoundError, ValueError: naming the file, and the shape that was expected.
        """

    def read_betas(
        self, files: Files, shape: tuple[int, ...], chosen: NDArray[np.intp], n_trials: int
    ) -> NDArray[np.float32]:
        """Read betas in percent signal change: float32 [n_trials, n_chosen].

        Args:
            files: One session's.
            shape: See `Map`.
            chosen: Numbers of the places to read, ascending.
            n_trials: Trials that the file must have.

        Raises:
            FileNotFoundError, ValueError: naming the file.
        """

    def places(self, of: Map, chosen: NDArray[np.intp]) -> Places:
        """Where the chosen places lie."""


def check_map_size(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse a map larger than any brain.

    Raises:
        ValueError: naming the file.
    """
    if np.prod(shape, dtype=float) > _LARGEST_MAP:
        raise ValueError(f"{path}: shape {shape}, expected at most {_LARGEST_MAP} values")


def subject_name(subject: int) -> str:
    """NSD's name of a subject counted from 1: "subj01"."""
    return f"subj{subject:02d}"
