"""What an NSD tree holds, and whether its tables agree."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from brainit_clusters.data.nsd.design import Design, read_design, read_trials, responses_path
from brainit_clusters.data.nsd.space import subject_name
from brainit_clusters.data.nsd.spaces import SPACES
from brainit_clusters.data.nsd.stimuli import STIMULI, TABLE, read_coco_ids


def summarise_tree(root: str | Path) -> dict[str, Any]:
    """Check the tables of an NSD tree against each other, and list its betas; none is read.

    Args:
        root: Folder that holds `nsddata`, `nsddata_stimuli` and `nsddata_betas`.

    Returns:
        JSON values: subjects, each with its trials, and with the beta folders and atlases of every
        space that it has.

    Raises:
        FileNotFoundError, ValueError: naming the table, and what contradicts.
    """
    root = Path(root)
    design = read_design(root)
    read_coco_ids(root, design.images, design.shared)
    numbers = range(1, len(design.images) + 1)
    return {
        "root": str(root),
        "shared_images": len(design.shared),
        "images": (root / STIMULI).is_file(),
        "coco_ids": (root / TABLE).is_file(),
        "subjects": {
            subject_name(s): _subject(root, s, design)
            for s in numbers
            if responses_path(root, s).is_file()
        },
    }


def _subject(root: Path, subject: int, design: Design) -> dict[str, Any]:
    trials = read_trials(root, subject, design)
    betas = root / "nsddata_betas/ppdata" / subject_name(subject)
    found = {}
    for name, space in SPACES.items():
        folders = sorted(folder for folder in (betas / name).glob("*betas_*") if folder.is_dir())
        if folders:
            found[name] = {
                "betas": {folder.name: _n_sessions(folder) for folder in folders},
                "atlases": space.atlases(root, subject),
            }
    return {"sessions": len(trials.sessions), "trials": len(trials.image_id), "spaces": found}


def _n_sessions(folder: Path) -> int:
    """Sessions that have a file of betas."""
    found = (re.search(r"betas_[^.]+", path.name) for path in folder.glob("*betas_*.*"))
    return len({name[0] for name in found if name})
