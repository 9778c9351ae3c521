"""What is read from the Natural Scenes Dataset (NSD), and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from brainit_clusters.data.nsd.image_sets import TEST_SETS
from brainit_clusters.data.nsd.spaces import SPACES
from brainit_clusters.data.sessions import Normalisation
from brainit_clusters.data.subject import Repeats

BETAS = ("betas_assumehrf", "betas_fithrf", "betas_fithrf_GLMdenoise_RR")
SESSIONS = (40, 40, 32, 30, 40, 32, 40, 30)
"""Sessions of subj01 to subj08; the last three of each were released last."""
TRIALS_PER_HOUR = 750
"""Trials of a session: 12 runs of five minutes, a trial every four seconds but for blank ones."""
Draw = Literal["first", "random"]


def trials_in(minutes: float) -> int:
    """Trials that NSD shows in so many minutes of runs, rounded to whole ones (12.5 a minute).

    Allen et al., Nature Neuroscience 25 (2022): a session has 12 runs of 300 s, with 750 trials.

    Raises:
        ValueError: if there is no time for a trial.
    """
    trials = round(minutes / 60 * TRIALS_PER_HOUR)
    if trials < 1:
        raise ValueError(f"minutes are {minutes:g}, expected enough for a trial of 4 s")
    return trials


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Refuse a value that is none of the choices.

    Raises:
        ValueError: naming the setting and the choices.
    """
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, expected one of {tuple(choices)}")


@dataclass(frozen=True, kw_only=True)
class ScanConfig:
    """Which scans of which subjects; shared by NSD, NSD-synthetic and NSD-imagery.

    Attributes:
        subjects: 1-based subject numbers; None: all that have betas.
        image_size: Side of the stored images in pixels.
        betas: NSD's name of the beta version: "betas_assumehrf" (b1), "betas_fithrf" (b2) or
            "betas_fithrf_GLMdenoise_RR" (b3).
        space: "fsaverage", "nativesurface", "func1pt8mm" or "func1mm".
        mask: Which voxels; see `read_mask`.
        repeats: "average": a row an image, the mean of its trials; "trials": a row a trial.
    """

    subjects: tuple[int, ...] | None = None
    image_size: int = 224
    betas: str = "betas_fithrf_GLMdenoise_RR"
    space: str = "fsaverage"
    mask: str = "nsdgeneral"
    repeats: Repeats = "average"

    def __post_init__(self) -> None:
        check_choice("betas", self.betas, BETAS)
        check_choice("space", self.space, tuple(SPACES))
        check_choice("repeats", self.repeats, get_args(Repeats))
        if self.mask == "algonauts-2023" and self.space != "fsaverage":
            raise ValueError(f"mask 'algonauts-2023' is one of fsaverage, not of {self.space}")
        if self.image_size < 1:
            raise ValueError(f"image_size is {self.image_size}, expected at least 1")
        if self.subjects is not None and (
            not self.subjects
            or min(self.subjects) < 1
            or len(set(self.subjects)) < len(self.subjects)
        ):
            raise ValueError(f"subjects are {self.subjects}, expected numbers from 1, none twice")


@dataclass(frozen=True, kw_only=True)
class NSDConfig(ScanConfig):
    """What is read from NSD, and how.

    Attributes:
        sessions: "40": all that a subject has; "37": without the last three of each subject, as
            they were before these were released; or 1-based session numbers.
        trials: Trials of each subject that training and validation may use, as if only these had
            been scanned for them; None: all. What they show counts, test images too, which are
            then left aside. They are z-scored among themselves; test images keep all their trials,
            z-scored as without this limit.
        draw: Which these are. "first": in the order in which they were shown. "random": sessions
            in a random order, all trials of each, and of the last one random trials, because
            z-scores need many trials of one session.
        normalisation: How betas are z-scored within a session: "published" by all its trials,
            test trials included, as Brain-IT does; "leak-free" by its training trials alone.
        test_set: "shared1000", "shared982", "shared907" or "shared515"; see `named_test_set`.
        validation_fraction: Share of the images a subject alone saw that is held out.
        seed: Chooses them, and random trials.
    """

    sessions: str | tuple[int, ...] = "40"
    trials: int | None = None
    draw: Draw = "first"
    normalisation: Normalisation = "published"
    test_set: str = "shared1000"
    validation_fraction: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("normalisation", self.normalisation, get_args(Normalisation))
        check_choice("draw", self.draw, get_args(Draw))
        if self.trials is not None and self.trials < 1:
            raise ValueError(f"trials are {self.trials}, expected at least one or None for all")
        check_choice("test_set", self.test_set, TEST_SETS)
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(f"validation_fraction is {self.validation_fraction}, not in [0, 1)")
        if isinstance(self.sessions, str):
            check_choice("sessions", self.sessions, ("37", "40"))
        elif not self.sessions or min(self.sessions) < 1:
            raise ValueError(f"sessions are {self.sessions}, expected numbers from 1")
