"""The key of a study: which trial showed what, and on which side. Raters never get it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from brainit_eval.human.trials import Candidate, Trial
from brainit_eval.records.fields import Fields, read_json
from brainit_eval.records.writing import write_text

SCHEMA = 1
QUESTION = "Which is more similar to the image at the top?"


@dataclass(frozen=True)
class Key:
    """A study.

    Attributes:
        study: Its id, which pages and answers carry: 16 hexadecimal digits made from the pictures.
        trials: All trials, by page and place.
        settings: What was asked of `plan_trials`.
    """

    study: str
    trials: Sequence[Trial]
    settings: Mapping[str, Any]

    def page(self, number: int) -> dict[int, Trial]:
        """The trials of one page, by place.

        Raises:
            ValueError: If there is no such page.
        """
        trials = {trial.place: trial for trial in self.trials if trial.page == number}
        if not trials:
            raise ValueError(f"study {self.study} has no page {number}")
        return trials

    def write(self, path: Path) -> None:
        """Write ``key.json``."""
        record = {
            "schema": SCHEMA,
            "study": self.study,
            "question": QUESTION,
            "settings": dict(self.settings),
            "trials": [asdict(trial) for trial in self.trials],
        }
        write_text(path, json.dumps(record, indent=1) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> Key:
        """Read ``key.json``.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is not what `write` makes.
        """
        record = Fields(read_json(Path(path)), str(path))
        record.integer("schema", SCHEMA, SCHEMA)
        record.text("question")
        settings = record.table("settings")
        key = cls(
            record.text("study"),
            [_trial(fields) for fields in record.tables("trials")],
            settings.plain(),
        )
        record.close()
        return key


def _trial(fields: Fields) -> Trial:
    trial = Trial(
        page=fields.integer("page", 1, 10**6),
        place=fields.integer("place", 0, 10**6),
        comparison=fields.text("comparison"),
        subject=_optional(fields, "subject"),
        image_id=fields.text("image_id"),
        first=_candidate(fields.table("first")),
        second=_candidate(fields.table("second")),
        side=fields.text("side", ("left", "right")),
    )
    fields.close()
    return trial


def _candidate(fields: Fields) -> Candidate:
    return Candidate(_optional(fields, "method"), fields.text("image_id"))


def _optional(fields: Fields, name: str) -> str | None:
    value = fields.raw(name)
    return value if value is None else Fields({name: value}, fields.where).text(name)
