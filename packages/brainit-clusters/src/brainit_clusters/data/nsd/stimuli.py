"""NSD's images, and what its table says of them."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainit_clusters._files import existing
from brainit_clusters.data.other.arrays import StoredArray

STIMULI = Path("nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5")
TABLE = Path("nsddata/experiments/nsd/nsd_stim_info_merged.csv")
_FIELD = "imgBrick"
_COLUMNS = ("cocoId", "nsdId", "cropBox", "loss", "shared1000")
_BOX = re.compile(r"\(\s*([^,()]+),\s*([^,()]+),\s*([^,()]+),\s*([^,()]+)\)")


def open_images(path: Path, n_needed: int) -> StoredArray:
    """Open NSD's images: uint8 [n, H, W, 3], read where they are sliced.

    Args:
        path: The file.
        n_needed: Images that it must have.

    Raises:
        FileNotFoundError, ValueError: naming the file and what was expected.
    """
    images = StoredArray(existing(path, "NSD's images"), _FIELD)
    if len(images.shape) != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise ValueError(f"{path}: expected /{_FIELD}, uint8 [n, H, W, 3]")
    if len(images) < n_needed:
        raise ValueError(f"{path}: {len(images)} images, the design shows id {n_needed - 1}")
    return images


def read_coco_ids(
    root: Path, images: NDArray[np.int64], shared: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """COCO's id of every NSD image, from `nsd_stim_info_merged.csv`, checked against the design.

    Args:
        root: NSD root.
        images: Ids of all images of the design.
        shared: Ids of the shared images, ascending.

    Returns:
        int64 [n], or None where there is no such table.

    Raises:
        ValueError: naming the row and column that cannot be right: `nsdId` must count the rows
            from 0, `shared1000` mark the shared images, `cropBox` be four shares that leave
            something of the image, `loss` a share.
    """
    path = root / TABLE
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        if missing := set(_COLUMNS) - set(reader.fieldnames or ()):
            raise ValueError(f"{path}: no column {min(missing)}")
        coco_id = [_coco_id(path, number, row, shared) for number, row in enumerate(reader)]
    if len(coco_id) <= images.max():
        raise ValueError(f"{path}: {len(coco_id)} rows, the design has nsdId {images.max()}")
    return np.array(coco_id, np.int64)


def _coco_id(path: Path, number: int, row: dict[str, str], shared: NDArray[np.int64]) -> int:
    box = _BOX.fullmatch((row["cropBox"] or "").strip())
    place = np.searchsorted(shared, number)
    is_shared = bool(place < len(shared) and shared[place] == number)
    try:
        checks = {
            "nsdId": int(row["nsdId"]) == number,
            "shared1000": row["shared1000"].strip().lower() in _YES[is_shared],
            "cropBox": box is not None and _is_crop(*map(float, box.groups())),
            "loss": 0 <= float(row["loss"]) <= 1,
            "cocoId": int(row["cocoId"]) >= 0,
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: row {number}: {error}") from None
    if wrong := [name for name, right in checks.items() if not right]:
        raise ValueError(f"{path}: row {number}: {wrong[0]} is {row[wrong[0]]!r}")
    return int(row["cocoId"])


def _is_crop(top: float, bottom: float, left: float, right: float) -> bool:
    return min(top, bottom, left, right) >= 0 and top + bottom < 1 and left + right < 1


_YES = {True: ("true", "1"), False: ("false", "0")}
