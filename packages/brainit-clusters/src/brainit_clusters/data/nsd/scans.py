"""One subject's scans: which files, which voxels, and what is known of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainit_clusters.data.nsd.config import ScanConfig
from brainit_clusters.data.nsd.masks import mask_files, read_atlases, read_mask, read_noise
from brainit_clusters.data.nsd.space import Files, Map, Space, subject_name
from brainit_clusters.data.nsd.spaces import SPACES
from brainit_clusters.data.places import Places

_BETAS = Path("nsddata_betas/ppdata")


@dataclass(frozen=True, eq=False)
class Scans:
    """One subject's beta files in one space, and the voxels of a mask.

    Attributes:
        root: NSD root.
        subject: 1-based subject number.
        space: The space.
        folder: Where the betas are.
        files: Stem of each beta file, such as "betas_session01" -> the files.
        n_trials: Stem -> trials in the file.
        mask: The map of the mask.
        chosen: Numbers of the mask's voxels, ascending.
        mask_files: Files that the mask comes from.
    """

    root: Path
    subject: int
    space: Space
    folder: Path
    files: Mapping[str, Files]
    n_trials: Mapping[str, int]
    mask: Map
    chosen: NDArray[np.intp]
    mask_files: Files

    def read(self, stem: str, columns: slice) -> NDArray[np.float32]:
        """Betas of a range of the mask's voxels: float32 [n_trials, n]."""
        return self.space.read_betas(
            self.files[stem], self.mask.shape, self.chosen[columns], self.n_trials[stem]
        )

    @property
    def places(self) -> Places:
        """Where the mask's voxels lie."""
        return self.space.places(self.mask, self.chosen)

    @cached_property
    def ncsnr(self) -> NDArray[Any]:
        """Noise-ceiling signal-to-noise ratio of the mask's voxels."""
        return read_noise(self.space, self.folder, self.mask, self.chosen)

    @cached_property
    def atlases(self) -> tuple[dict[str, NDArray[np.int32]], dict[str, dict[int, str]]]:
        """Labels of the mask's voxels, and the labels' names; see `read_atlases`."""
        return read_atlases(self.root, self.space, self.subject, self.mask, self.chosen)

    @property
    def noise_files(self) -> Files:
        """Where `ncsnr` comes from."""
        return self.space.noise_files(self.folder)


def open_scans(
    root: Path, subject: int, config: ScanConfig, betas: str, n_trials: Mapping[str, int]
) -> Scans:
    """Find one subject's files, read its mask, and check every beta file's header and size.

    Args:
        root: NSD root.
        subject: 1-based subject number.
        config: Space and mask.
        betas: Folder of the betas.
        n_trials: Stem of each beta file -> trials that it must have.

    Raises:
        FileNotFoundError, ValueError: naming the file.
    """
    space = SPACES[config.space]
    folder = _folder(root, subject, config, betas)
    mask, chosen = read_mask(root, space, subject, config.mask)
    files = {stem: space.beta_files(folder, stem) for stem in n_trials}
    for stem, paths in files.items():
        space.check_betas(paths, mask.shape, n_trials[stem])
    masks = mask_files(root, space, subject, config.mask)
    return Scans(root, subject, space, folder, files, n_trials, mask, chosen, masks)


def subjects_with_betas(root: Path, config: ScanConfig, betas: str) -> tuple[int, ...]:
    """Numbers of the subjects that have a folder of betas, ascending.

    Raises:
        FileNotFoundError: if none has.
    """
    folders = sorted((root / _BETAS).glob(f"subj[0-9][0-9]/{config.space}/{betas}"))
    if not folders:
        raise FileNotFoundError(
            f"{root / _BETAS}: no subjXX/{config.space}/{betas} folder below it"
        )
    return tuple(int(folder.parts[-3].removeprefix("subj")) for folder in folders)


def _folder(root: Path, subject: int, config: ScanConfig, betas: str) -> Path:
    return root / _BETAS / subject_name(subject) / config.space / betas
