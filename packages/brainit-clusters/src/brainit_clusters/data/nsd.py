"""The Natural Scenes Dataset, from its own file layout to one `dataset.h5` (fsaverage route).

NSD: Allen et al., Nature Neuroscience 25 (2022); preparation as in Brain-IT (arXiv 2510.25976).
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import h5py
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from brainit_clusters._files import existing, fingerprint, sha256
from brainit_clusters.data.average import Normalisation
from brainit_clusters.data.dataset import SubjectData, write_dataset
from brainit_clusters.data.images import ResizedImages
from brainit_clusters.data.noise import noise_ceiling
from brainit_clusters.data.nsd_design import (
    DESIGN,
    Design,
    Trials,
    read_design,
    read_trials,
    responses_path,
)
from brainit_clusters.data.nsd_surface import (
    HEMISPHERES,
    average_repeats,
    n_mesh_vertices,
    read_atlases,
    read_map,
    read_mask,
)
from brainit_clusters.data.split import split_images

STIMULI = Path("nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5")
_BETAS = Path("nsddata_betas/ppdata")
_CHOICES = {
    "betas": ("betas_assumehrf", "betas_fithrf", "betas_fithrf_GLMdenoise_RR"),
    "space": ("fsaverage",),
    "normalisation": ("published", "leak-free"),
    "test_set": ("shared1000",),
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class NSDConfig:
    """What is read from NSD, and how.

    Attributes:
        subjects: 1-based subject numbers; None: all that have betas.
        image_size: Side of the stored images in pixels.
        betas: NSD's name of the beta version.
        space: "fsaverage".
        mask: Name of a label file (`?h.NAME.mgz`, labels above zero), or "algonauts-2023".
        normalisation: How betas are z-scored within a session: "published" by all its trials,
            test trials included, as Brain-IT does; "leak-free" by its training trials alone.
        test_set: "shared1000": the design's shared images, as far as the subject saw them.
        validation_fraction: Share of the images a subject alone saw that is held out.
        seed: Chooses them.
    """

    subjects: tuple[int, ...] | None = None
    image_size: int = 224
    betas: str = "betas_fithrf_GLMdenoise_RR"
    space: str = "fsaverage"
    mask: str = "nsdgeneral"
    normalisation: Normalisation = "published"
    test_set: str = "shared1000"
    validation_fraction: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"{name} is {value!r}, expected one of {choices}")
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(f"validation_fraction is {self.validation_fraction}, not in [0, 1)")
        if self.image_size < 1:
            raise ValueError(f"image_size is {self.image_size}, expected at least 1")


def prepare_nsd(
    root: str | Path, output: str | Path, config: NSDConfig, progress: bool = True
) -> Path:
    """Turn an NSD tree into a dataset file.

    Every trial's image is checked against `responses.tsv`. Vertices of the mask that are NaN in
    any trial, constant in a session, or without a noise estimate are dropped; the subject's
    attributes say how many.

    Args:
        root: Folder that holds `nsddata`, `nsddata_stimuli` and `nsddata_betas`.
        output: The dataset file to write.
        config: What to read.
        progress: Show a progress bar.

    Returns:
        `output`.

    Raises:
        FileNotFoundError: naming the first missing file.
        ValueError: naming the file and field that cannot be right.
    """
    root = Path(root)
    design = read_design(root)
    subjects = config.subjects or _subjects_with_betas(root, config)
    trials = {subject: read_trials(root, subject, design) for subject in subjects}
    files = {
        subject: _session_files(root, subject, trials[subject], config) for subject in subjects
    }
    image_id = np.unique(np.concatenate([part.image_id for part in trials.values()]))
    bar = tqdm(total=len(subjects) * 2, desc="prepare", unit="hemisphere", disable=not progress)
    with _open_stimuli(root, image_id) as stimuli, bar:
        data = (
            _read_subject(root, subject, design, trials[subject], files[subject], config, bar)
            for subject in subjects
        )
        return write_dataset(
            output,
            ResizedImages(stimuli["imgBrick"], image_id, config.image_size),
            image_id,
            data,
            _attributes(root, design, files, config),
        )


def _read_subject(
    root: Path,
    subject: int,
    design: Design,
    trials: Trials,
    files: dict[str, list[Path]],
    config: NSDConfig,
    bar: tqdm[None],
) -> SubjectData:
    image_id, repeats = np.unique(trials.image_id, return_counts=True)
    seed = (config.seed, subject)
    split = split_images(image_id, design.shared, config.validation_fraction, seed)
    train = np.isin(trials.image_id, image_id[split == "train"])
    betas, vertices, ncsnr, dropped = [], [], [], {"nan": 0, "constant": 0, "no_ncsnr": 0}
    for side, mask in zip(HEMISPHERES, read_mask(root, config.mask), strict=True):
        part = average_repeats(files[side], mask, trials, image_id, train, config.normalisation)
        noise = read_map(_beta_folder(root, subject, config) / f"{side}.ncsnr.mgh", "ncsnr")
        noise = noise[mask[part.kept]]
        known = np.isfinite(noise)
        betas.append(part.betas if known.all() else part.betas[:, known])
        vertices.append(mask[part.kept][known])
        ncsnr.append(noise[known])
        for reason, count in zip(
            dropped, (part.n_nan, part.n_constant, int((~known).sum())), strict=True
        ):
            dropped[reason] += count
        bar.update()
    name = f"subj{subject:02d}"
    _log.info("%s: dropped vertices of the mask: %s", name, dropped)
    if not sum(map(len, vertices)):
        raise ValueError(f"{name}: no vertex of mask {config.mask!r} has a value in every trial")
    roi, roi_labels = read_atlases(root, vertices)
    return SubjectData(
        name=name,
        betas=np.concatenate(betas, axis=1),
        image_id=image_id,
        repeats=repeats.astype(np.int16),
        split=split,
        vertex=np.concatenate(vertices).astype(np.int32),
        hemisphere=np.repeat(np.arange(2, dtype=np.uint8), [len(part) for part in vertices]),
        noise_ceiling=noise_ceiling(np.concatenate(ncsnr), repeats),
        roi=roi,
        roi_labels=roi_labels,
        attributes={
            "n_sessions": trials.n_sessions,
            "n_trials": len(trials.session),
            "dropped_vertices": dropped,
        },
    )


def _beta_folder(root: Path, subject: int, config: NSDConfig) -> Path:
    return root / _BETAS / f"subj{subject:02d}" / config.space / config.betas


def _subjects_with_betas(root: Path, config: NSDConfig) -> tuple[int, ...]:
    folders = sorted((root / _BETAS).glob(f"subj[0-9][0-9]/{config.space}/{config.betas}"))
    if not folders:
        raise FileNotFoundError(
            f"{root / _BETAS}: no subjXX/{config.space}/{config.betas} folder below it"
        )
    return tuple(int(folder.parts[-3].removeprefix("subj")) for folder in folders)


def _session_files(
    root: Path, subject: int, trials: Trials, config: NSDConfig
) -> dict[str, list[Path]]:
    folder = _beta_folder(root, subject, config)
    sessions = range(1, trials.n_sessions + 1)
    return {
        side: [
            existing(folder / f"{side}.betas_session{n:02d}.mgh", f"betas of session {n}")
            for n in sessions
        ]
        for side in HEMISPHERES
    }


def _open_stimuli(root: Path, image_id: NDArray[np.int64]) -> h5py.File:
    path = existing(root / STIMULI, "NSD's stimulus images")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: not a readable HDF5 file ({error})") from error
    brick = file.get("imgBrick")
    if brick is None or brick.ndim != 4 or brick.shape[3] != 3 or brick.dtype != np.uint8:
        file.close()
        raise ValueError(f"{path}: expected /imgBrick, uint8 [n, H, W, 3]")
    if image_id[-1] >= len(brick):
        file.close()
        raise ValueError(f"{path}: {len(brick)} images, the design shows id {image_id[-1]}")
    return file


def _attributes(
    root: Path, design: Design, files: dict[int, dict[str, list[Path]]], config: NSDConfig
) -> dict[str, object]:
    whole = [root / DESIGN, *(responses_path(root, subject) for subject in files)]
    betas = [path for sides in files.values() for paths in sides.values() for path in paths]
    hashes = {str(path.relative_to(root)): f"sha256:{sha256(path)}" for path in whole}
    for path in [root / STIMULI, *betas]:
        hashes[str(path.relative_to(root))] = f"fingerprint:{fingerprint(path)}"
    settings = cast(dict[str, object], asdict(config))
    return settings | {
        "source": "NSD",
        "test_set": f"shared{len(design.shared)}",
        "n_vertices_per_hemisphere": n_mesh_vertices(root, config.mask),
        "input_hashes": hashes,
    }
