"""Scans, images and the run folder: present, whole, and of this profile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import h5py

from brainit.doctor.check import Check
from brainit.pipeline import applicable
from brainit.profile import Profile, ProfileError, load_profile
from brainit_clusters.data.dataset import BrainDataset
from brainit_clusters.data.nsd.config import ScanConfig
from brainit_clusters.data.nsd.design import read_design, read_trials
from brainit_clusters.data.nsd.scans import open_scans
from brainit_clusters.data.nsd.stimuli import STIMULI, open_images


def finished(run: Path) -> frozenset[str]:
    """Stages of a run folder whose outputs are there."""
    manifest = run / "manifest.json"
    if not manifest.is_file():
        return frozenset()
    stages = json.loads(manifest.read_text())["stages"]
    return frozenset(
        name
        for name, entry in stages.items()
        if all((run / output).exists() for output in entry["outputs"].values())
    )


def check_run(run: Path, profile: Profile) -> Check:
    """Does the folder follow this profile, and is what its manifest names still there?"""
    if not (run / "config.toml").is_file():
        return Check("run folder", "ok", f"{run}: a new one")
    try:
        same = load_profile(str(run / "config.toml")) == profile
        manifest = json.loads((run / "manifest.json").read_text())["stages"]
    except (ProfileError, OSError, ValueError, KeyError) as error:
        return Check("run folder", "fail", f"{run}: {error}", "start in another folder")
    done = finished(run)
    names = [stage.name for stage in applicable(profile)]
    found = f"{run}: {sum(name in done for name in names)} of {len(names)} stages are done"
    if lost := sorted(set(manifest) - done):
        return Check("run folder", "warn", f"{found}; outputs of {', '.join(lost)} are gone",
                     "they will be made again")  # fmt: skip
    if not same:
        return Check("run folder", "warn", f"{found}, by another profile",
                     "stages that read what differs will run again")  # fmt: skip
    return Check("run folder", "ok", found)


def check_data(profile: Profile, run: Path | None) -> Iterator[Check]:
    """Prepared, simulated or raw scans; and external images."""
    dataset = run / "dataset.h5" if run is not None else None
    if dataset is not None and dataset.is_file():
        yield _prepared(profile, dataset)
    elif profile.simulation is not None and not profile.data.root:
        yield Check("scans", "ok", "will be simulated")
    else:
        yield from _nsd(profile)
    yield _external(profile)


def _prepared(profile: Profile, path: Path) -> Check:
    try:
        with BrainDataset.open(path) as dataset:
            there = dataset.subjects
    except (OSError, ValueError) as error:
        return Check("scans", "fail", str(error), "remove it; brainit prepare nsd makes it again")
    wanted = [f"subj{n:02d}" for n in profile.data.subjects]
    if missing := sorted(set(wanted) - set(there)):
        return Check("scans", "warn", f"{path} lacks {', '.join(missing)}",
                     "brainit prepare nsd reads them anew")  # fmt: skip
    return Check("scans", "ok", f"{path}: {len(there)} subjects, prepared")


def _nsd(profile: Profile) -> Iterator[Check]:
    """The raw tree: what `brainit prepare nsd` reads, checked as it checks it."""
    root, data = Path(profile.data.root), profile.data
    numbers = ",".join(map(str, data.subjects))
    fetch = f"brainit-clusters nsd download {root} --subjects {numbers} --space {data.space}"
    config = ScanConfig(
        image_size=data.image_size, betas=data.betas, space=data.space, mask=data.mask
    )
    try:
        design = read_design(root)
        images = open_images(root / STIMULI, int(design.images.max()) + 1)
    except (OSError, ValueError) as error:
        yield Check("scans", "fail", str(error), fetch)
        return
    yield Check("stimuli", "ok", f"{images.shape[0]:,} images in {root}")
    for subject in data.subjects:
        name = f"scans: subj{subject:02d}"
        try:
            trials = read_trials(root, subject, design)
            sizes = {n: int((trials.session == n).sum()) for n in trials.sessions}
            stems = {f"betas_session{n:02d}": size for n, size in sizes.items()}
            scans = open_scans(root, subject, config, data.betas, stems)
        except (OSError, ValueError) as error:
            yield Check(name, "fail", str(error), fetch)
            continue
        found = f"{len(sizes)} sessions are whole, {len(scans.chosen):,} voxels in the mask"
        yield Check(name, "ok", found)


def _external(profile: Profile) -> Check:
    path = profile.data.external
    if not path:
        return Check("external images", "ok", "will be simulated")
    advice = "an HDF5 file with /images uint8 [n, H, W, 3]: see docs/nsd.md, or data.external"
    if not Path(path).is_file():
        return Check("external images", "fail", f"{path}: not there", advice)
    try:
        with h5py.File(path, "r") as file:
            shape, kind = file["images"].shape, file["images"].dtype
    except (OSError, KeyError) as error:
        return Check("external images", "fail", f"{path}: {error}", advice)
    if len(shape) != 4 or shape[3] != 3 or kind != "uint8":
        return Check("external images", "fail", f"{path}: /images is {kind} {shape}", advice)
    return Check("external images", "ok", f"{shape[0]:,} in {path}")
