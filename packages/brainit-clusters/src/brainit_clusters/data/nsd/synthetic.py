"""NSD-synthetic: 284 artificial images (Gifford et al., doi 10.1038/s41467-026-69345-9)."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from brainit_clusters.data.images import resize
from brainit_clusters.data.nsd.companion import companion_recording, write_companion
from brainit_clusters.data.nsd.config import ScanConfig, check_choice
from brainit_clusters.data.nsd.design import read_matlab
from brainit_clusters.data.nsd.manifest import input_hashes
from brainit_clusters.data.nsd.scans import Scans, open_scans, subjects_with_betas
from brainit_clusters.data.nsd.space import subject_name
from brainit_clusters.data.nsd.stimuli import open_images
from brainit_clusters.data.sessions import Session

Fit = Literal["crop", "pad"]
N_COMMON, N_OWN = 220, 64
"""Images that all subjects saw, and that each saw in colours of its own."""
_DESIGN = Path("nsddata/experiments/nsdsynthetic/nsdsynthetic_expdesign.mat")
_STIMULI = Path("nsddata_stimuli/stimuli/nsdsynthetic")
_STEM = "betas_nsdsynthetic"


def prepare_synthetic(root: str | Path, output: str | Path, config: ScanConfig, fit: Fit) -> Path:
    """Turn NSD-synthetic into a dataset file; all rows are of the split "test".

    Voxels are z-scored in the session, over all trials. Images 0 to 219 are those of all subjects;
    subject s saw 64 more, from number 220 + 64 (s - 1) on. Images are encoded as NSD's, not as the
    stimulus files are; see `as_seen`.

    Args:
        root: NSD root.
        output: The dataset file to write.
        config: Subjects, image size, betas, space, mask, repeats.
        fit: How the stimuli, 1360 x 714 pixels, become square: "crop" takes the middle and loses
            what lies beside it, some of the words wholly; "pad" keeps all, on the colour of the
            top left pixel.

    Returns:
        `output`.

    Raises:
        FileNotFoundError, ValueError: naming the file and field that cannot be right.
    """
    check_choice("fit", fit, get_args(Fit))
    root, betas = Path(root), f"nsdsynthetic{config.betas}"
    (order,) = read_matlab(root / _DESIGN, ("masterordering",))
    shown = order.ravel() - 1
    if shown.min() < 0 or shown.max() >= N_COMMON + N_OWN:
        raise ValueError(
            f"{root / _DESIGN}: masterordering must hold 1 to {N_COMMON + N_OWN}, it is 1-based"
        )
    subjects = config.subjects or subjects_with_betas(root, config, betas)
    scans = [open_scans(root, s, config, betas, {_STEM: len(shown)}) for s in subjects]
    files = {_image_file(root, None): np.arange(N_COMMON)}
    files |= {_image_file(root, scan): _own(scan) + np.arange(N_OWN) for scan in scans}
    images = [_squares(path, len(ids), fit, config.image_size) for path, ids in files.items()]
    image_id = np.concatenate(list(files.values()))
    order = np.argsort(image_id)
    recordings = []
    for scan in scans:
        where = f"{subject_name(scan.subject)}: {_STEM}"
        session = Session(where, np.arange(len(shown)), partial(scan.read, _STEM))
        seen = np.where(shown < N_COMMON, shown, shown - N_COMMON + _own(scan))
        recordings.append(companion_recording(scan, [session], seen, {}))
    attributes = asdict(config) | {
        "source": "NSD-synthetic",
        "normalisation": "published",
        "fit": fit,
        "input_hashes": input_hashes(root, [root / _DESIGN], files, scans),
    }
    return write_companion(
        Path(output),
        np.concatenate(images)[order],
        image_id[order],
        recordings,
        config.repeats,
        attributes,
    )


def _own(scan: Scans) -> int:
    """Id of the first image that only this subject saw."""
    return N_COMMON + N_OWN * (scan.subject - 1)


def _image_file(root: Path, scan: Scans | None) -> Path:
    if scan is None:
        return root / _STIMULI / "nsdsynthetic_stimuli.hdf5"
    return root / _STIMULI / f"nsdsynthetic_colorstimuli_{subject_name(scan.subject)}.hdf5"


def _squares(path: Path, n_images: int, fit: Fit, size: int) -> NDArray[np.uint8]:
    images = open_images(path, n_images)
    if len(images) != n_images:
        raise ValueError(f"{path}: {len(images)} images, expected {n_images}")
    return np.stack([resize(square(as_seen(images[row]), fit), size) for row in range(n_images)])


def as_seen(stimulus: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bring stored intensities to the encoding of NSD's images, and of photographs elsewhere.

    These stimuli went to the display as they are, which is linear (St-Yves et al., doi
    10.1038/s41467-023-38674-4); NSD's values were squared on the way (Allen et al., doi
    10.1038/s41593-021-00962-x). The root of the one looks as the other did. The authors' analysis
    takes it too, and cuts off as this does (github.com/gifale95/NSD-synthetic).
    """
    encoded: NDArray[np.uint8] = np.sqrt(255.0 * stimulus).astype(np.uint8)
    return encoded


def square(image: NDArray[np.uint8], fit: Fit) -> NDArray[np.uint8]:
    """Make an image uint8 [H, W, 3] square: its middle, or all on the first pixel's colour."""
    height, width = image.shape[:2]
    short, long = sorted((height, width))
    if fit == "crop":
        top, left = (height - short) // 2, (width - short) // 2
        return image[top : top + short, left : left + short]
    canvas = np.broadcast_to(image[0, 0], (long, long, 3)).copy()
    top, left = (long - height) // 2, (long - width) // 2
    canvas[top : top + height, left : left + width] = image
    return canvas
