"""NSD-imagery: 18 stimuli, seen and imagined (Kneeland et al., arXiv 2506.06898).

Rules: sets A (simple) and B (natural) have images and are scored, six each; set C are concepts
without an image and are not. Vision and imagery stand apart. Each stimulus is reconstructed several
times. With 12 images scores are coarse, which the table says aloud.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from brainit_eval.ood.groups import GroupScore, group_scores, subject_ids
from brainit_eval.records.result import Result

SETS = {"A": "simple", "B": "natural"}
"""Sets that have images; their ids are A1 to A6 and B1 to B6."""
IDS = tuple(f"{name}{number}" for name in SETS for number in range(1, 7))
SET_B_IN_NSD = (28752, 30857, 53882, 61178, 65873)
"""Images of set B that are NSD images too, by their number among the 73,000."""


@dataclass(frozen=True)
class ImageryScores:
    """Scores of both tasks.

    Attributes:
        vision: Set ("A", "B" or "both"), then metric, to the score of what was seen.
        imagery: The same of what was imagined.
        notes: What must be said beside them.
    """

    vision: Mapping[str, Mapping[str, GroupScore]]
    imagery: Mapping[str, Mapping[str, GroupScore]]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Overlap:
    """A stimulus of set B that a subject's training images hold."""

    subject: str
    nsd_id: int
    counted_from: int


def score_imagery(
    vision: Result, imagery: Result, n_bootstrap: int = 2000, seed: int = 0
) -> ImageryScores:
    """Scores of sets A and B, for vision and for imagery.

    Args:
        vision: Result of reconstructions from the vision runs; ids as in `IDS`.
        imagery: Result of reconstructions from the imagery runs; same protocol and subjects.
        n_bootstrap: Draws of images.
        seed: Of the draws.

    Raises:
        ValueError: If ids are not the 12, or the two results differ in protocol or subjects.
    """
    if (vision.protocol.hash, set(vision.subjects)) != (
        imagery.protocol.hash,
        set(imagery.subjects),
    ):
        raise ValueError("vision and imagery: expected one protocol and the same subjects")
    groups = {name: [image for image in IDS if image.startswith(name)] for name in SETS}
    groups["both"] = list(IDS)
    for task, result in (("vision", vision), ("imagery", imagery)):
        _check_ids(task, result)
    return ImageryScores(
        group_scores(vision, groups, n_bootstrap, seed),
        group_scores(imagery, groups, n_bootstrap, seed),
        _notes(vision, imagery),
    )


def training_overlap(training_ids: Mapping[str, Iterable[int]]) -> list[Overlap]:
    """Stimuli of set B among training images: decoding those is no test.

    Whether the published numbers count from 0 or from 1 could not be confirmed, so both readings
    are looked for; look at the picture before a hit is believed.

    Args:
        training_ids: Subject to the numbers, from 0, of its training images among the 73,000.
    """
    found = []
    for subject, ids in training_ids.items():
        known = set(ids)
        for counted_from in (0, 1):
            found += [
                Overlap(subject, nsd_id, counted_from)
                for nsd_id in SET_B_IN_NSD
                if nsd_id - counted_from in known
            ]
    return found


def _check_ids(task: str, result: Result) -> None:
    for subject in result.subjects:
        ids = subject_ids(result, subject)
        if concepts := [image_id for image_id in ids if image_id.startswith("C")]:
            raise ValueError(
                f"{task}: {subject}: set C ({', '.join(concepts)}) are concepts without an image"
            )
        if set(ids) != set(IDS):
            raise ValueError(
                f"{task}: {subject}: expected the images {', '.join(IDS)}, got {', '.join(ids)}"
            )


def _notes(vision: Result, imagery: Result) -> tuple[str, ...]:
    n = len(IDS)
    notes = [
        f"{n} images: two-way identification of one reconstruction moves in steps of 1/{n - 1} "
        f"({100 / (n - 1):.1f} points); chance is 50 %, and a perfect score is 100 %.",
        "Distractors of identification are all 12 images, also in the rows of one set.",
        "A method that reconstructs what is seen well need not reconstruct what is imagined well.",
    ]
    for task, result in (("Vision", vision), ("Imagery", imagery)):
        if result.samples == 1:
            notes.append(f"{task}: one sample a stimulus; several are needed to tell luck apart.")
        else:
            notes.append(f"{task}: mean of {result.samples} samples a stimulus.")
    return tuple(notes)
