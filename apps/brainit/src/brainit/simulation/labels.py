"""Write area labels as NSD does: ``?h.NAME.mgz`` beside ``NAME.mgz.ctab``.

``nsddata/freesurfer/fsaverage/label`` holds labels of all subjects together: ``nsdgeneral`` is the
union of their masks, the other labels are by majority. ``nsddata/freesurfer/subjAA/label`` holds
each subject's own.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from brainit.simulation.areas import AREA_INDEX, AREAS, HEMISPHERES, STREAMS, AreaMap, mesh_plane

LABELS: dict[str, dict[int, str]] = {
    "nsdgeneral": {1: "nsdgeneral"},
    "streams": STREAMS,
    "prf-visualrois": {1: "V1v", 2: "V1d", 3: "V2v", 4: "V2d", 5: "V3v", 6: "V3d", 7: "hV4"},
    "floc-faces": {1: "OFA", 2: "FFA-1"},
    "floc-bodies": {1: "EBA", 2: "FBA-1"},
    "floc-places": {1: "OPA", 2: "PPA"},
}
_AREA_OF = {"FFA-1": "FFA", "FBA-1": "FBA"}


def write_labels(freesurfer: Path, subjects: Sequence[AreaMap]) -> None:
    """Write all labels of all subjects.

    Args:
        freesurfer: The folder ``nsddata/freesurfer``.
        subjects: Areas of ``subj01``, ``subj02`` and so on.
    """
    for name, codes in LABELS.items():
        values = [subject_label(areas, name) for areas in subjects]
        for subject, label in enumerate(values):
            _write(freesurfer / f"subj{subject + 1:02d}" / "label", name, label, codes)
        _write(freesurfer / "fsaverage" / "label", name, _together(np.stack(values), name), codes)


def subject_label(areas: AreaMap, name: str) -> NDArray[np.int32]:
    """One label of one subject: codes int32 [2, vertices], 0 where it does not apply."""
    label = np.zeros((2, len(mesh_plane(0)[0])), np.int32)
    label[areas.hemisphere, areas.vertex] = _codes(areas, name)
    return label


def _codes(areas: AreaMap, name: str) -> NDArray[np.int32]:
    if name == "nsdgeneral":
        return np.ones(len(areas), np.int32)
    if name == "streams":
        return np.array([a.stream for a in AREAS], np.int32)[areas.area]
    codes = np.zeros(len(areas), np.int32)
    for code, label in LABELS[name].items():
        area, half = (
            (label[:2], label[2:]) if label[:1] == "V" else (_AREA_OF.get(label, label), "")
        )
        there = areas.area == AREA_INDEX[area]
        if half:
            there &= (areas.across < 0) == (half == "v")
        codes[there] = code
    return codes


def _together(values: NDArray[np.int32], name: str) -> NDArray[np.int32]:
    if name == "nsdgeneral":
        return np.asarray(values.max(0))
    votes = np.stack([(values == code).sum(0) for code in (0, *LABELS[name])])
    votes[0] = 0
    winner = np.array([0, *LABELS[name]], np.int32)[votes.argmax(0)]
    return np.where(values.any(0), winner, 0).astype(np.int32)


def _write(folder: Path, name: str, label: NDArray[np.int32], codes: dict[int, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for hemisphere, values in zip(HEMISPHERES, label, strict=True):
        image = nibabel.MGHImage(values[:, None, None], np.eye(4))
        _replace(folder / f"{hemisphere}.{name}.mgz", gzip.compress(image.to_bytes(), mtime=0))
    lines = ["0 Unknown 0 0 0 0"]
    lines += [
        f"{c} {text} {37 * c % 256} {91 * c % 256} {149 * c % 256} 0" for c, text in codes.items()
    ]
    _replace(folder / f"{name}.mgz.ctab", ("\n".join(lines) + "\n").encode())


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)
