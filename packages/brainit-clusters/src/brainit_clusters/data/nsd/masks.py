"""Which voxels are read, and what is known of each: atlas labels and noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainit_clusters.data.nsd.space import Files, Map, Space, subject_name

_SUFFIXES = (".nii.gz", ".mgz", ".mgh")
_CODES = {
    "streams": "early midventral midlateral midparietal ventral lateral parietal",
    "prf-visualrois": "V1v V1d V2v V2d V3v V3d hV4",
}
"""NSD's own codes 1, 2, 3 ..., for trees without the colour table."""


def mask_files(root: Path, space: Space, subject: int, name: str) -> Files:
    """The files that a mask is read from; see `read_mask`."""
    if name == "algonauts-2023":
        optional = space.label_files(root, subject, "nsdgeneralRSC")
        found = tuple(path for path in optional if path.is_file())
        return space.label_files(root, subject, "nsdgeneral") + found
    if name.endswith(_SUFFIXES):
        return space.own_files(name.replace("{subject}", subject_name(subject)))
    return space.label_files(root, subject, name.partition(":")[0])


def read_mask(root: Path, space: Space, subject: int, name: str) -> tuple[Map, NDArray[np.intp]]:
    """The voxels of a mask.

    Args:
        root: NSD root.
        space: Where the voxels lie.
        subject: 1-based subject number.
        name: "nsdgeneral" or another atlas: its labels above zero, not those that differ from -1
            or 0 (`nsdgeneral` codes -1, 0 and 1). "ATLAS:LABEL" or "ATLAS:LABEL+LABEL": labels by
            name, such as "streams:ventral" or "prf-visualrois:V1v+V1d". "algonauts-2023":
            `nsdgeneral` or, where its files are there, `nsdgeneralRSC` on fsaverage. A path that
            ends in .nii.gz, .mgz or .mgh: your own map, values above zero; "?h." in it stands for
            "lh." and "rh.", "{subject}" for "subj01" and so on.

    Returns:
        The map of the mask, and the numbers of its voxels, ascending.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: if there is no such label, or the mask is empty.
    """
    files = mask_files(root, space, subject, name)
    n_sides = len(space.noise_files(root))
    found = space.read_map(files[:n_sides], f"the mask {name!r}")
    inside = found.values > 0
    if len(files) > n_sides:
        further = space.read_map(files[n_sides:], f"the mask {name!r}")
        inside |= _same_shape(files[n_sides], further, found).values > 0
    if ":" in name and not name.endswith(_SUFFIXES):
        atlas, _, labels = name.partition(":")
        inside = np.isin(found.values, _codes(root, space, subject, atlas, labels.split("+")))
    chosen = np.flatnonzero(inside)
    if not len(chosen):
        raise ValueError(f"{files[0]}: mask {name!r} holds no voxel")
    return found, chosen


def read_atlases(
    root: Path, space: Space, subject: int, mask: Map, chosen: NDArray[np.intp]
) -> tuple[dict[str, NDArray[np.int32]], dict[str, dict[int, str]]]:
    """Every atlas at the chosen voxels: maps of whole numbers alone, so no pRF estimates.

    Returns:
        name -> int32 [n_chosen] labels, and name -> label -> name from its colour table.

    Raises:
        ValueError: naming a file that is broken or of another shape than the mask.
    """
    labels, names = {}, {}
    for atlas in space.atlases(root, subject):
        files = space.label_files(root, subject, atlas)
        values = _same_shape(files[0], space.read_map(files, atlas), mask).values
        if (np.isfinite(values) & (values == np.rint(values))).all():
            labels[atlas] = values[chosen].astype(np.int32)
            names[atlas] = label_names(space.colour_table(root, subject, atlas), atlas)
    return labels, names


def read_noise(space: Space, folder: Path, mask: Map, chosen: NDArray[np.intp]) -> NDArray[Any]:
    """Noise-ceiling signal-to-noise ratios of the chosen voxels: [n_chosen].

    Raises:
        FileNotFoundError, ValueError: naming the file.
    """
    files = space.noise_files(folder)
    ncsnr = _same_shape(files[0], space.read_map(files, "ncsnr"), mask).values[chosen]
    if (ncsnr < 0).any():
        raise ValueError(f"{files[0]}: ncsnr is negative somewhere, expected at least 0")
    return ncsnr


def label_names(path: Path, atlas: str) -> dict[int, str]:
    """Names of an atlas's labels, from its colour table (`.ctab`) if it is there.

    Raises:
        ValueError: naming the file and the line that cannot be read.
    """
    if not path.is_file():
        return dict(enumerate(_CODES.get(atlas, "").split(), start=1))
    names = {}
    for line in path.read_text(errors="replace").splitlines():
        cells = line.split()
        if len(cells) < 2 or line.startswith("#"):
            continue
        try:
            names[int(cells[0])] = cells[1]
        except ValueError:
            raise ValueError(f"{path}: line {line!r}, expected a label and its name") from None
    return names


def _codes(root: Path, space: Space, subject: int, atlas: str, labels: list[str]) -> list[int]:
    path = space.colour_table(root, subject, atlas)
    code_of = {name: code for code, name in label_names(path, atlas).items()}
    if unknown := [label for label in labels if label not in code_of]:
        raise ValueError(f"{path}: no label {unknown[0]!r}, expected one of {sorted(code_of)}")
    return [code_of[label] for label in labels]


def _same_shape(path: Path, found: Map, mask: Map) -> Map:
    if found.shape != mask.shape:
        raise ValueError(f"{path}: shape {found.shape}, expected {mask.shape} as the mask")
    return found
