"""`brainit-clusters nsd download`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from brainit_clusters._command import numbers
from brainit_clusters.nsd_download.bucket import NSD_URL, Bucket
from brainit_clusters.nsd_download.fetch import Target, fetch_all, found
from brainit_clusters.nsd_download.profile import Profile, betas, select
from brainit_clusters.nsd_download.trials import trial_range

TERMS = (
    "NSD is shared under terms of use: https://cvnlab.slite.page/p/IB6BSeW_7o/Terms-and-Conditions "
    "(first fill in its access agreement, https://forms.gle/xue2bCdM9LaFNMeb7); "
    "add --accept-terms once you have accepted them"
)
_SAID = {
    "absent": "-",
    "md5": "verified",
    "parts": "verified",
    "size": "size only",
    "unchecked": "not checked",
    "differs": "differs",
}


def download(
    root: Annotated[Path, typer.Argument(help="Folder to make the NSD tree in.")],
    subjects: Annotated[str, typer.Option(help="1,2,5,7 or 1-8.")] = "1-8",
    space: Annotated[
        str, typer.Option(help="fsaverage, nativesurface, func1pt8mm or func1mm.")
    ] = "fsaverage",
    version: Annotated[
        str, typer.Option("--betas", help="NSD's name of the beta version.")
    ] = "betas_fithrf_GLMdenoise_RR",
    sessions: Annotated[
        str | None,
        typer.Option(help="1-40, as far as a subject has them; all if left out."),
    ] = None,
    volumes: Annotated[
        str, typer.Option(help="Format of the betas of func1pt8mm and func1mm: hdf5 or nii.gz.")
    ] = "hdf5",
    trials: Annotated[
        str | None,
        typer.Option(
            help="1-100: only these trials of each session (fsaverage), as lh.session01_trials"
            "001-100.mgh and so on. nibabel and FreeSurfer read them; `nsd prepare` does not."
        ),
    ] = None,
    list_only: Annotated[bool, typer.Option("--list", help="Show the files, fetch none.")] = False,
    accept_terms: Annotated[
        bool, typer.Option("--accept-terms", help="I have accepted NSD's terms of use.")
    ] = False,
    recheck: Annotated[
        bool, typer.Option("--recheck", help="Read again and check what was verified before.")
    ] = False,
    connections: Annotated[int, typer.Option(min=1, max=32, help="Files at a time.")] = 4,
    url: Annotated[
        str, typer.Option(help="The bucket, or a mirror with S3's interface.")
    ] = NSD_URL,
) -> None:
    """Fetch what `nsd prepare` reads of the Natural Scenes Dataset, from its public bucket.

    Stop it whenever you like: the same command goes on from there, and checks files that another
    tool fetched. A file has its name only once its bytes are verified; until then it is a `.part`.
    """
    if not accept_terms and (trials or not list_only):
        raise PermissionError(TERMS)
    profile = Profile(
        subjects=numbers(subjects, "--subjects"),
        space=space,
        betas=version,
        sessions=numbers(sessions, "--sessions") if sessions else None,
        volumes=volumes,
    )
    bucket = Bucket(url)
    targets = _trials(bucket, profile, root, trials) if trials else _whole(bucket, profile, root)
    if list_only:
        _show(targets, root)
        return
    if recheck:
        for target in targets:
            if target.is_whole and target.path.exists():
                target.note.unlink(missing_ok=True)
    checks = fetch_all(targets, bucket, connections)
    count = Counter(_SAID[check] for check in checks.values())
    typer.echo(f"{root}: " + ", ".join(f"{n} files {said}" for said, n in count.items()))


def _whole(bucket: Bucket, profile: Profile, root: Path) -> list[Target]:
    return [Target.whole(file, root) for file in select(bucket, profile)]


def _trials(bucket: Bucket, profile: Profile, root: Path, text: str) -> list[Target]:
    if profile.space != "fsaverage":
        raise ValueError(f"--trials: only fsaverage betas lie trial by trial, not {profile.space}")
    chosen = numbers(text, "--trials")
    first, last = chosen[0], chosen[-1]
    if len(chosen) != last - first + 1:
        raise ValueError(f"--trials {text}: expected one range, such as 1-100")
    return [
        trial_range(bucket, file, root, first, last)
        for subject in profile.subjects
        for file in betas(bucket, profile, subject)
        if "betas_session" in file.key
    ]


def _show(targets: list[Target], root: Path) -> None:
    verified = missing = 0
    for target in targets:
        state, have = found(target)
        said = _SAID.get(state) or f"{have / target.size:.0%}"
        verified += target.size if said == "verified" else 0
        missing += target.size - have
        size = tqdm.format_sizeof(target.size, "B")
        typer.echo(f"{said:>11}  {size:>7}  {target.path.relative_to(root)}")
    total, done, left = (
        tqdm.format_sizeof(n, "B") for n in (sum(t.size for t in targets), verified, missing)
    )
    typer.echo(f"{len(targets)} files, {total}; {done} verified, {left} to fetch")
