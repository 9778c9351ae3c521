"""Betas in a BIDS-derivative folder: subjects, sessions and runs by the files' names."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Image

from brainit_clusters._files import existing
from brainit_clusters.data.other.surface import CiftiBetas, GiftiBetas, read_cifti, read_gifti
from brainit_clusters.data.other.table import TrialTable, read_trial_table
from brainit_clusters.data.other.trials import TrialData
from brainit_clusters.data.other.volume import read_nifti
from brainit_clusters.data.scans import load

_KINDS = (".func.gii", ".dscalar.nii", ".dtseries.nii", ".nii.gz", ".nii")
_EVENT_KEYS = ("sub", "ses", "task", "acq", "run")
_ORDER = ("ses", "task", "acq", "run")


def read_bids(
    root: str | Path,
    *,
    pattern: str = "*_desc-betas_*",
    events: str | Path | None = None,
    table: str | Path | None = None,
    mask: str | Path | None = None,
) -> list[TrialData]:
    """Every subject of a BIDS-derivative folder.

    Betas are `sub-*/[ses-*/]func/PATTERN`, one file a run (and hemisphere), in the order of
    session, task and run. What each trial showed is the column `stim_file` of the run's
    `*_events.tsv` (rows without one are no trials; `split` is read too), or stands in one trial
    table for all subjects.

    Args:
        root: The derivative folder.
        pattern: Name of the beta files; must single out one space and one file type.
        events: Root of the raw data set, where its `*_events.tsv` are; None: `root`.
        table: A trial table instead of events, with a column `subject` ("sub-01").
        mask: NIfTI mask for volumes, "{subject}" in it is replaced; None: the subject's only
            `*_desc-brain_mask.nii.gz` in the betas' space.

    Raises:
        FileNotFoundError, ValueError: naming the file, the field and what was expected.
    """
    root = Path(root)
    found: dict[str, list[Path]] = {}
    for session in ("", "ses-*/"):
        for path in root.glob(f"sub-*/{session}func/{pattern}"):
            if path.name.endswith(_KINDS):
                found.setdefault(path.relative_to(root).parts[0], []).append(path)
    if not found:
        raise FileNotFoundError(f"{root}: no sub-*/[ses-*/]func/{pattern} with one of {_KINDS}")
    raw = root if events is None else Path(events)
    return [
        _subject(name, sorted(found[name], key=_run_key), root, raw, table, mask)
        for name in sorted(found)
    ]


def entities(path: Path) -> dict[str, str]:
    """Key-value pairs of a BIDS file name: sub-01_run-2_bold.nii is {"sub": "01", "run": "2"}."""
    pairs = (part.split("-", 1) for part in path.name.split(".")[0].split("_") if "-" in part)
    return {pair[0]: pair[1] for pair in pairs}


def _run_key(path: Path) -> list[list[tuple[int, str]]]:
    """Sorts run 10 after run 2, whether numbers have leading zeros or not."""
    found = entities(path)
    return [
        [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", value)]
        for value in (found.get(key, "") for key in _ORDER)
    ]


def _subject(
    name: str,
    paths: list[Path],
    root: Path,
    raw: Path,
    table: str | Path | None,
    mask: str | Path | None,
) -> TrialData:
    kind, space = _kind_and_space(name, paths)
    surface = kind == ".func.gii"
    sides = [[path for path in paths if entities(path).get("hemi") == side] for side in "LR"]
    runs = sides[0] if surface else paths
    keys = [_run_key(path) for path in runs]
    for path, key, before in zip(runs[1:], keys[1:], keys[:-1], strict=True):
        if key == before:
            raise ValueError(f"{path}: second file of its run; say by pattern which to read")
    if surface and (keys != [_run_key(path) for path in sides[1]] or not keys):
        raise ValueError(f"{paths[0]}: {name} lacks hemi-L or hemi-R of a run, expected both")
    trials = _events(runs, root, raw) if table is None else read_trial_table(table, name)
    if surface:
        return read_gifti(name, sides[0], sides[1], trials, space=space)
    if kind in (".nii", ".nii.gz"):
        return read_nifti(name, runs, _mask(root / name, space, name, mask), trials)
    return read_cifti(name, runs, trials, space=space)


def _kind_and_space(name: str, paths: list[Path]) -> tuple[str, str]:
    kinds = [next(kind for kind in _KINDS if path.name.endswith(kind)) for path in paths]
    spaces = [entities(path).get("space", "unknown") for path in paths]
    for path, kind, space in zip(paths, kinds, spaces, strict=True):
        if f"sub-{entities(path).get('sub')}" != name:
            raise ValueError(f"{path}: entity sub differs from its folder {name}")
        if (kind, space) != (kinds[0], spaces[0]):
            raise ValueError(
                f"{path}: type or space differs from {paths[0].name}; say by pattern which to read"
            )
    return kinds[0], spaces[0]


def _events(runs: list[Path], root: Path, raw: Path) -> TrialTable:
    session, run, image, split = [], [], [], []
    for number, path in enumerate(runs):
        found = entities(path)
        parts = [f"{key}-{found[key]}" for key in _EVENT_KEYS if key in found]
        folder = raw / path.parent.relative_to(root)
        file = existing(folder / ("_".join(parts) + "_events.tsv"), f"the events of {path.name}")
        rows = _shown(file)
        if len(rows) != (n_trials := _n_trials(path)):
            raise ValueError(
                f"{file}: {len(rows)} rows with a stim_file, {path.name} has {n_trials} trials"
            )
        image += [row["stim_file"] for row in rows]
        split += [row["split"] for row in rows if row.get("split")]
        session += [found.get("ses", "1")] * n_trials
        run += [str(number)] * n_trials
    if len(split) not in (0, len(image)):
        raise ValueError(f"{runs[0].parent}: column split is missing in some events")
    return TrialTable(
        np.array(session),
        np.array(image),
        np.array(run),
        np.array(split) if split else None,
        f"events of {runs[0].parent}",
    )


def _shown(path: Path) -> list[dict[str, str]]:
    """Rows of an events file that show an image, in the order of their onsets."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        rows = [row for row in rows if row["stim_file"] not in ("", "n/a", None)]
        return sorted(rows, key=lambda row: float(row["onset"]))
    except KeyError as error:
        raise ValueError(f"{path}: no column {error.args[0]}") from error
    except (UnicodeDecodeError, csv.Error, ValueError, TypeError) as error:
        raise ValueError(f"{path}: column onset or the table cannot be read ({error})") from error


def _n_trials(path: Path) -> int:
    if path.name.endswith(".func.gii"):
        return GiftiBetas(path).shape[0]
    if path.name.endswith((".dscalar.nii", ".dtseries.nii")):
        return CiftiBetas(path).shape[0]
    shape = load(path, "4-D betas", Nifti1Image).shape
    if len(shape) != 4:
        raise ValueError(f"{path}: shape {shape}, expected 4 dimensions, trials last")
    return int(shape[3])


def _mask(folder: Path, space: str, name: str, mask: str | Path | None) -> Path:
    if mask is not None:
        return Path(str(mask).replace("{subject}", name))
    found = [
        path
        for path in sorted(folder.rglob("*_desc-brain_mask.nii*"))
        if entities(path).get("space", "unknown") == space
    ]
    if len(found) != 1:
        raise ValueError(
            f"{folder}: {len(found)} *_desc-brain_mask.nii.gz in space {space}, expected one; "
            "say which by mask"
        )
    return found[0]
