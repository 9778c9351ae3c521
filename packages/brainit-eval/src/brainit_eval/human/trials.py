"""Which trials a human study asks: balanced over comparisons, subjects and images, seeded.

A trial shows one true image above two candidates. One candidate is *first*, the one whose choices
are counted: the reconstruction of that image rather than of another one (mode "random", as in
MindEye2, arXiv 2403.11207), method A rather than method B (mode "methods"), or, in a catch trial,
the true image itself rather than another true image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import lcm
from typing import Literal, cast, get_args

import numpy as np

Mode = Literal["random", "methods"]
CATCH = "catch"


@dataclass(frozen=True)
class Candidate:
    """A picture to choose: the true image (``method`` None) or a method's reconstruction of it."""

    method: str | None
    image_id: str


@dataclass(frozen=True)
class Trial:
    """One question.

    Attributes:
        page: Page, from 1.
        place: Place on the page, from 0.
        comparison: What is compared; `CATCH` for a catch trial.
        subject: Whose brain; None for a catch trial.
        image_id: The true image at the top.
        first: The candidate whose choices are counted.
        second: The other one.
        side: Where `first` stands, "left" or "right".
    """

    page: int
    place: int
    comparison: str
    subject: str | None
    image_id: str
    first: Candidate
    second: Candidate
    side: str


def plan_trials(
    mode: Mode,
    methods: Sequence[str],
    subjects: Sequence[str],
    image_ids: Sequence[str],
    *,
    pages: int = 1,
    trials: int = 80,
    catch: int = 8,
    seed: int = 0,
) -> list[Trial]:
    """Plan a whole study.

    Over all pages, and on each page, the pairs of comparison and subject occur equally often up to
    one trial; so do the images over all pages; no comparison asks twice for the same image of the
    same subject before it has asked for all. On each page half of the candidates that count stand
    on the left, up to one trial a comparison.

    Args:
        mode: "random": is a reconstruction closer to its own image than the same method's
            reconstruction of another one? "methods": which of two methods is closer, for every
            pair of methods?
        methods: Names; 2 or more for "methods".
        subjects: Names.
        image_ids: Ids of the images, the same for all methods and subjects; 2 or more.
        pages: How many pages; each is for one or more raters.
        trials: Trials a page, catch trials not counted.
        catch: Catch trials a page, at random places.
        seed: Of everything that is drawn.

    Returns:
        The trials, by page and place.

    Raises:
        ValueError: If a name or id occurs twice, or a number is not as stated.
    """
    _check(mode, methods, subjects, image_ids, pages, trials, catch)
    draw = np.random.default_rng(seed)
    comparisons: list[tuple[str, ...]] = [(method,) for method in methods]
    if mode == "methods":
        comparisons = list(combinations(methods, 2))
    cells = [(comparison, subject) for comparison in comparisons for subject in subjects]
    cells = [cells[k] for k in draw.permutation(len(cells))]
    ids = [image_ids[k] for k in draw.permutation(len(image_ids))]
    period = lcm(len(cells), len(ids))
    planned = []
    for page in range(1, pages + 1):
        asked = []
        for t in range((page - 1) * trials, page * trials):
            # Dealt like this, all pairs of cell and image come once before one comes again
            # (Chinese remainder theorem; the shift opens the pairs that a period leaves out).
            comparison, subject = cells[t % len(cells)]
            image_id = ids[(t + t // period) % len(ids)]
            asked.append(_question(comparison, subject, image_id, ids, draw))
        asked += [_catch(image_id, ids, draw) for image_id in _some(ids, catch, draw)]
        sides = _sides([question[0] for question in asked], draw)
        for place, k in enumerate(map(int, draw.permutation(len(asked)))):
            planned.append(Trial(page, place, *asked[k], sides[k]))
    return planned


_Question = tuple[str, str | None, str, Candidate, Candidate]


def _question(
    comparison: tuple[str, ...],
    subject: str,
    image_id: str,
    ids: list[str],
    draw: np.random.Generator,
) -> _Question:
    first = Candidate(comparison[0], image_id)
    if len(comparison) == 2:
        name = f"{comparison[0]} over {comparison[1]}"
        return name, subject, image_id, first, Candidate(comparison[1], image_id)
    lure = Candidate(comparison[0], _other(image_id, ids, draw))
    return f"{comparison[0]}: own over random", subject, image_id, first, lure


def _catch(image_id: str, ids: list[str], draw: np.random.Generator) -> _Question:
    lure = Candidate(None, _other(image_id, ids, draw))
    return CATCH, None, image_id, Candidate(None, image_id), lure


def _other(image_id: str, ids: list[str], draw: np.random.Generator) -> str:
    place = ids.index(image_id) + int(draw.integers(1, len(ids)))
    return ids[place % len(ids)]


def _some(ids: list[str], n: int, draw: np.random.Generator) -> list[str]:
    return [ids[k] for k in draw.choice(len(ids), n, replace=n > len(ids))]


def _sides(names: list[str], draw: np.random.Generator) -> list[str]:
    """Left and right in turn within each comparison, which side begins being drawn."""
    sides = [""] * len(names)
    for name in dict.fromkeys(names):
        places = draw.permutation([k for k, other in enumerate(names) if other == name])
        start = int(draw.integers(2))
        for turn, k in enumerate(places):
            sides[k] = ("left", "right")[(start + turn) % 2]
    return sides


def check_mode(text: str) -> Mode:
    """The mode of that name.

    Raises:
        ValueError: If there is none.
    """
    for mode in get_args(Mode):
        if text == mode:
            return cast(Mode, mode)
    raise ValueError(f"mode: expected one of {', '.join(get_args(Mode))}, got {text!r}")


def _check(
    mode: str,
    methods: Sequence[str],
    subjects: Sequence[str],
    image_ids: Sequence[str],
    pages: int,
    trials: int,
    catch: int,
) -> None:
    check_mode(mode)
    fewest = {"methods": 1 + (mode == "methods"), "subjects": 1, "image_ids": 2}
    lists = (methods, subjects, image_ids)
    for (name, least), values in zip(fewest.items(), lists, strict=True):
        if len(values) < least or len(set(values)) < len(values):
            raise ValueError(f"{name}: expected {least} or more, each once, got {len(values)}")
    if pages < 1 or trials < 1 or catch < 0:
        raise ValueError(
            f"expected pages and trials of 1 or more, catch of 0 or more; "
            f"got {pages}, {trials}, {catch}"
        )
