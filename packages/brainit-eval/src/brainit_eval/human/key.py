"""The key of a study: which trial showed what, and on which side. Raters never get it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from brainit_eval.human.trials import Candidate, Trial
from brainit_eval.records.fields import Fields, read_json

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
        trials = records(record, "trials")
        key = cls(
            record.text("study"),
            [_trial(fields) for fields in trials],
            {name: settings.raw(name) for name in settings.names()},
        )
        record.close()
        return key


def records(fields: Fields, name: str) -> list[Fields]:
    """A list of tables.

    Raises:
        ValueError: If it is anything else.
    """
    values = fields.raw(name)
    if not isinstance(values, list):
        raise ValueError(f"{fields.where}: {name}: expected a list")
    return [Fields(value, f"{fields.where}: {name}[{k}]") for k, value in enumerate(values)]


def write_text(path: Path, text: str) -> Path:
    """Write a text file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
    return path


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
