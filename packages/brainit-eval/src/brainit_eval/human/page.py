"""Write a human study: static pages for the raters, and the key, which stays with you."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from brainit_eval.human.key import QUESTION, SCHEMA, Key
from brainit_eval.human.trials import Candidate, Trial
from brainit_eval.pages import render
from brainit_eval.pictures.encode import data_uri, jpeg, to_image
from brainit_eval.pictures.sets import Pictures, match_ids
from brainit_eval.records.writing import write_text


@dataclass(frozen=True)
class StudyImages:
    """The pictures of a study; all sets hold the same image ids.

    Attributes:
        truth: The images seen.
        methods: Method, then subject, to its reconstructions.
        size: Side in pixels at which all are shown.
    """

    truth: Pictures
    methods: Mapping[str, Mapping[str, Pictures]]
    size: int = 256

    def __post_init__(self) -> None:
        """Check that methods have the same subjects and all sets the same images.

        Raises:
            ValueError: If not, or a set is without pictures.
        """
        subjects = {tuple(sorted(sets)) for sets in self.methods.values()}
        if len(subjects) != 1:
            raise ValueError(f"methods: expected the same subjects of each, got {sorted(subjects)}")
        for sets in self.methods.values():
            for pictures in sets.values():
                match_ids(pictures, self.truth)

    @property
    def subjects(self) -> list[str]:
        """Subjects, in order of name."""
        return sorted(next(iter(self.methods.values())))

    def encoded(self, candidate: Candidate, subject: str | None) -> str:
        """Data URI of a picture: one size and one encoding, so that neither tells the method."""
        source = self.truth
        if candidate.method is not None:
            source = self.methods[candidate.method][str(subject)]
        place = source.ids.index(candidate.image_id)
        picture = source.batch(range(place, place + 1))[0]
        image = to_image(picture, f"{source.name}: {candidate.image_id}")
        if image.width != self.size:
            image = image.resize((self.size, self.size), Image.Resampling.LANCZOS)
        return data_uri(jpeg(image, quality=95))  # a sixth of a PNG


def write_study(
    folder: str | Path, trials: Sequence[Trial], images: StudyImages, settings: Mapping[str, Any]
) -> list[Path]:
    """Write ``pages/page-N.html`` and ``key.json``.

    A page holds pictures in the order in which they are shown and nothing else: no method, subject,
    image id or side that counts. Whoever has only the pages cannot tell the answers.

    Args:
        folder: Where to write; must not hold a key yet, since answers need the key they came from.
        trials: From `plan_trials`.
        images: The pictures.
        settings: What was asked of `plan_trials`, for the key.

    Returns:
        The pages.

    Raises:
        FileExistsError: If the folder holds a key.
        ValueError: If a picture cannot be read.
    """
    folder = Path(folder)
    key_path = folder / "key.json"
    if key_path.exists():
        raise FileExistsError(f"{key_path}: exists already; write the new study elsewhere")
    pages: dict[int, list[dict[str, str]]] = {}
    for trial in trials:
        pages.setdefault(trial.page, []).append(_shown(trial, images))
    study = hashlib.sha256(json.dumps(pages).encode()).hexdigest()[:16]
    paths = []
    for number, shown in pages.items():
        page = {"schema": SCHEMA, "study": study, "page": number, "trials": shown}
        text = render("brainit_eval.human", question=QUESTION, study=page)
        paths.append(write_text(folder / "pages" / f"page-{number}.html", text))
    Key(study, trials, settings).write(key_path)
    return paths


def _shown(trial: Trial, images: StudyImages) -> dict[str, str]:
    first, second = (images.encoded(c, trial.subject) for c in (trial.first, trial.second))
    left, right = (first, second) if trial.side == "left" else (second, first)
    top = images.encoded(Candidate(None, trial.image_id), None)
    return {"top": top, "left": left, "right": right}
