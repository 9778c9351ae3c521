"""NSD's fsaverage files: masks, atlases, noise and betas of single trials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from brainit_clusters._files import existing
from brainit_clusters.data.average import (
    AveragedBetas,
    Normalisation,
    SessionBetas,
    average_sessions,
)
from brainit_clusters.data.nsd_design import Trials

HEMISPHERES = ("lh", "rh")
_LABELS = Path("nsddata/freesurfer/fsaverage/label")
_READ_BYTES = 32 * 2**20


def load(path: Path, what: str) -> Any:
    """Open an `.mgh` or `.mgz` file without reading its data.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is no such file.
    """
    existing(path, what)
    try:
        return nib.load(path)
    except (ImageFileError, OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable surface file ({error})") from error


def read_map(path: Path, what: str) -> NDArray[Any]:
    """Read one value a vertex: [n_vertices].

    Raises:
        FileNotFoundError, ValueError: see `load`.
    """
    image = load(path, what)
    if len(image.shape) > 3 and image.shape[3] != 1:
        raise ValueError(f"{path}: {image.shape[3]} values a vertex, expected one")
    return np.asarray(_read(image, path, ())).ravel()


def read_mask(root: Path, name: str) -> tuple[NDArray[np.intp], ...]:
    """Vertices of each hemisphere whose label in `?h.NAME.mgz` is above zero.

    Above zero, not different from -1 or from 0: `nsdgeneral` codes -1, 0 and 1. The name
    "algonauts-2023" means `nsdgeneral` or, where the file is there, `nsdgeneralRSC`.

    Returns:
        Ascending vertex numbers of the left and of the right hemisphere.

    Raises:
        FileNotFoundError: if there is no such label file.
        ValueError: if the mask is empty.
    """
    names = ("nsdgeneral", "nsdgeneralRSC") if name == "algonauts-2023" else (name,)
    vertices = []
    for side in HEMISPHERES:
        paths = [root / _LABELS / f"{side}.{part}.mgz" for part in names]
        paths = paths[:1] + [path for path in paths[1:] if path.is_file()]
        inside = [read_map(path, f"the mask {name!r}") > 0 for path in paths]
        vertices.append(np.flatnonzero(np.any(inside, axis=0)))
    if not sum(map(len, vertices)):
        raise ValueError(f"{root / _LABELS}: mask {name!r} holds no vertex")
    return tuple(vertices)


def n_mesh_vertices(root: Path, mask: str) -> int:
    """Vertices of a whole hemisphere of the mesh (163,842 on fsaverage)."""
    name = "nsdgeneral" if mask == "algonauts-2023" else mask
    return int(load(root / _LABELS / f"lh.{name}.mgz", f"the mask {mask!r}").shape[0])


def read_atlases(
    root: Path, vertices: Sequence[NDArray[np.intp]]
) -> tuple[dict[str, NDArray[np.int32]], dict[str, dict[int, str]]]:
    """Every atlas that has a label file for both hemispheres, at the given vertices.

    Args:
        root: NSD root.
        vertices: Vertex numbers of the left and of the right hemisphere.

    Returns:
        name -> int32 [n_left + n_right] labels, and name -> label -> name from its `.ctab`.
    """
    labels, names = {}, {}
    for path in sorted((root / _LABELS).glob("lh.*.mgz")):
        name = path.name.removeprefix("lh.").removesuffix(".mgz")
        paths = [root / _LABELS / f"{side}.{name}.mgz" for side in HEMISPHERES]
        if not paths[1].is_file():
            continue
        parts = [read_map(p, name)[v] for p, v in zip(paths, vertices, strict=True)]
        labels[name] = np.rint(np.concatenate(parts)).astype(np.int32)
        names[name] = _read_colour_table(root / _LABELS / f"{name}.mgz.ctab")
    return labels, names


def _read_colour_table(path: Path) -> dict[int, str]:
    if not path.is_file():
        return {}
    rows = (line.split() for line in path.read_text().splitlines() if not line.startswith("#"))
    return {int(row[0]): row[1] for row in rows if len(row) >= 2}


def average_repeats(
    files: Sequence[Path],
    vertices: NDArray[np.intp],
    trials: Trials,
    image_id: NDArray[np.int64],
    train: NDArray[np.bool_],
    normalisation: Normalisation,
) -> AveragedBetas:
    """Stream one hemisphere's sessions: z-score each vertex in each session, average repeats.

    Betas are percent signal change already and are not rescaled (only the integer files of other
    NSD spaces hold 300 times the value). At any time one session of the mask is in memory, and
    one sum an image.

    Args:
        files: One `.mgh` file a session.
        vertices: [n_mask] vertices to read.
        trials: The subject's trials.
        image_id: [n_images] the subject's images, ascending; rows of the result.
        train: bool [n_trials], trials of training images.
        normalisation: See `average_sessions`.

    Raises:
        FileNotFoundError, ValueError: naming the file that is missing, broken or of wrong shape.
    """
    rows = np.searchsorted(image_id, trials.image_id)
    sessions = _read_sessions(files, vertices, trials)
    return average_sessions(sessions, len(vertices), rows, train, normalisation)


def _read_sessions(
    files: Sequence[Path], vertices: NDArray[np.intp], trials: Trials
) -> Iterator[SessionBetas]:
    for session, path in enumerate(files, start=1):
        now = np.flatnonzero(trials.session == session)
        yield SessionBetas(str(path), now, _read_session(path, vertices, len(now)))


def _read_session(path: Path, vertices: NDArray[np.intp], n_trials: int) -> NDArray[np.float32]:
    """Masked betas of one session: float32 [n_trials, n_mask], read in slabs of trials."""
    image = load(path, "betas of one session")
    shape = tuple(image.shape)
    if len(shape) < 4:
        shape = (*shape, 1)
    if shape[1:] != (1, 1, n_trials) or (len(vertices) and shape[0] <= vertices[-1]):
        raise ValueError(f"{path}: shape {shape}, expected (n_vertices, 1, 1, {n_trials})")
    values = np.empty((n_trials, len(vertices)), np.float32)
    step = max(1, _READ_BYTES // (4 * shape[0]))
    for start in range(0, n_trials, step):
        stop = min(start + step, n_trials)
        where = (slice(None), 0, 0, slice(start, stop)) if len(image.shape) > 3 else ()
        slab = _read(image, path, where).reshape(shape[0], stop - start)
        values[start:stop] = slab[vertices].T
    return values


def _read(image: Any, path: Path, where: tuple[Any, ...]) -> NDArray[Any]:
    try:
        return np.asarray(image.dataobj[where] if where else image.dataobj)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: cannot be read whole ({error})") from error
