"""Which of NSD's files `prepare_nsd` reads for given subjects, in a given space."""

from __future__ import annotations

import re
from dataclasses import dataclass

from brainit_clusters.nsd_download.bucket import Bucket
from brainit_clusters.nsd_download.listing import RemoteFile

SPACES = ("fsaverage", "nativesurface", "func1pt8mm", "func1mm")
BETAS = ("betas_assumehrf", "betas_fithrf", "betas_fithrf_GLMdenoise_RR")
VOLUME_FORMATS = ("hdf5", "nii.gz")
_LABELS = re.compile(r"[lr]h\.[^/]+\.mgz|[^/]+\.mgz\.ctab")
_NAMES = re.compile(r"[^/]+\.mgz\.ctab")
_REGIONS = re.compile(r"[^/]+\.nii\.gz")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What is wanted of NSD.

    Attributes:
        subjects: 1-based subject numbers.
        space: One of `SPACES`.
        betas: NSD's name of the beta version.
        sessions: 1-based numbers, as far as a subject has them; None: all.
        volumes: Format of the betas of volumes: "hdf5" or "nii.gz".
    """

    subjects: tuple[int, ...]
    space: str = "fsaverage"
    betas: str = "betas_fithrf_GLMdenoise_RR"
    sessions: tuple[int, ...] | None = None
    volumes: str = "hdf5"

    def __post_init__(self) -> None:
        for name, choices in (("space", SPACES), ("betas", BETAS), ("volumes", VOLUME_FORMATS)):
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"{name} is {value!r}, expected one of {choices}")
        if not self.subjects or not all(1 <= subject <= 8 for subject in self.subjects):
            raise ValueError(f"subjects are {self.subjects}, expected numbers from 1 to 8")

    @property
    def is_volume(self) -> bool:
        """Whether betas lie in voxels, not in vertices."""
        return self.space.startswith("func")

    def beta_folder(self, subject: int) -> str:
        """Where a subject's betas are."""
        return f"nsddata_betas/ppdata/subj{subject:02d}/{self.space}/{self.betas}/"

    @property
    def session_file(self) -> re.Pattern[str]:
        """Name of a session's betas in their folder; group 1 is the session's number."""
        if self.is_volume:
            return re.compile(rf"betas_session([0-9]{{2}})\.{re.escape(self.volumes)}")
        suffix = "mgh" if self.space == "fsaverage" else "hdf5"
        return re.compile(rf"[lr]h\.betas_session([0-9]{{2}})\.{suffix}")

    @property
    def noise_file(self) -> re.Pattern[str]:
        """Name of the files with the noise of repeats in the folder of betas."""
        return re.compile(r"ncsnr\.nii\.gz" if self.is_volume else r"[lr]h\.ncsnr\.mgh")


def select(bucket: Bucket, profile: Profile) -> list[RemoteFile]:
    """The files of a profile, smallest things first: design, behaviour, regions, betas, stimuli.

    Raises:
        FileNotFoundError: naming the first thing that the bucket lacks.
        TransferError, ValueError: see `Bucket.files`.
    """
    files = _one(bucket, "nsddata/experiments/nsd/nsd_expdesign.mat")
    files += _one(bucket, "nsddata/experiments/nsd/nsd_stim_info_merged.csv")
    for subject in profile.subjects:
        files += _one(bucket, f"nsddata/ppdata/subj{subject:02d}/behav/responses.tsv")
    files += _regions(bucket, profile)
    for subject in profile.subjects:
        files += betas(bucket, profile, subject)
    files += _one(bucket, "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5")
    return list(dict.fromkeys(files))


def betas(bucket: Bucket, profile: Profile, subject: int) -> list[RemoteFile]:
    """A subject's noise files and betas of the sessions of a profile.

    Raises:
        FileNotFoundError: if there is none, or a hemisphere of a session is missing.
        TransferError, ValueError: see `Bucket.files`.
    """
    folder = profile.beta_folder(subject)
    per_session = 1 if profile.is_volume else 2
    noise: list[RemoteFile] = []
    sessions: dict[int, list[RemoteFile]] = {}
    for file in bucket.files(folder):
        name = file.key.removeprefix(folder)
        if profile.noise_file.fullmatch(name):
            noise.append(file)
        elif match := profile.session_file.fullmatch(name):
            sessions.setdefault(int(match[1]), []).append(file)
    chosen = sorted(sessions if profile.sessions is None else {*sessions} & {*profile.sessions})
    wanted = [noise, *(sessions[session] for session in chosen)]
    if not chosen or any(len(files) != per_session for files in wanted):
        what = f"ncsnr and betas of the sessions, {per_session} file(s) each"
        raise FileNotFoundError(f"{folder}: not all in the bucket: {what}")
    return [file for files in wanted for file in files]


def _regions(bucket: Bucket, profile: Profile) -> list[RemoteFile]:
    """Masks and atlases, and the names of their labels."""
    if profile.space == "fsaverage":
        return _some(bucket, "nsddata/freesurfer/fsaverage/label/", _LABELS)
    files = []
    for subject in profile.subjects:
        name = f"subj{subject:02d}"
        labels = f"nsddata/freesurfer/{name}/label/"
        if profile.is_volume:
            files += _some(bucket, f"nsddata/ppdata/{name}/{profile.space}/roi/", _REGIONS)
            files += _matching(bucket, labels, _NAMES)
        else:
            files += _some(bucket, labels, _LABELS)
    return files


def _one(bucket: Bucket, key: str) -> list[RemoteFile]:
    """The file of exactly this key, or `FileNotFoundError`."""
    files = [file for file in bucket.files(key) if file.key == key]
    if not files:
        raise FileNotFoundError(f"{key}: not in the bucket")
    return files


def _some(bucket: Bucket, folder: str, names: re.Pattern[str]) -> list[RemoteFile]:
    """The files in a folder whose name fits, or `FileNotFoundError`."""
    files = _matching(bucket, folder, names)
    if not files:
        raise FileNotFoundError(f"{folder}: nothing in the bucket fits {names.pattern}")
    return files


def _matching(bucket: Bucket, folder: str, names: re.Pattern[str]) -> list[RemoteFile]:
    return [file for file in bucket.files(folder) if names.fullmatch(file.key[len(folder) :])]
