"""Files that a stranger may have written: every value of every record, replaced by worse.

Each is refused in one printable line, or is a text where any text may stand; it is never code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainit_eval import Benchmark, Protocol, Result, from_arrays
from brainit_eval.human.analysis import analyse
from brainit_eval.human.key import Key
from brainit_eval.human.trials import plan_trials
from brainit_eval.pictures.categories import read_categories
from brainit_eval.records.fields import read_json, read_toml
from brainit_eval.report import Controls
from brainit_eval.statistics.readings import Reading

deep: Any = []
for _ in range(200):
    deep = [deep]
PAYLOADS = [
    *("__import__('os').system('true')", "!!python/object/apply:os.system [true]", "$import os"),
    *("_target_", "2**64", "../../etc/passwd", "C:\\x", "a\0b", "a\nb", "\u202eabc", "\x1b[2J"),
    *("<script>alert(1)</script>", "=cmd()", "${env:HOME}", "{{ 7 * 7 }}", "", " ", "\U0001f600"),
    *("x" * 2000, 10**400, -1, 0, 1, 2**63, 1.5, -1e300, True, None, [], {}, [None], deep),
    *({"_target_": "os.system"}, {"class_name": "Lambda"}, {"__reduce__": ["os.system", "true"]}),
]
IDS = ["3", "14", "159"]


def spoilt(record: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Places of all values in a record; of a list the first item stands for the others."""
    items = record.items() if isinstance(record, dict) else enumerate(record[:1])
    for key, value in items:
        yield (*place, key), value
        if isinstance(value, dict | list):
            yield from spoilt(value, (*place, key))


def put(record: Any, place: tuple[Any, ...], value: Any) -> Any:
    changed = deepcopy(record)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return changed


def refused(read: Callable[[], Any]) -> bool:
    """Whether it is refused, which must take one printable line; no other error may come."""
    try:
        read()
    except (FileNotFoundError, ValueError) as error:
        line = str(error)
        return line.isprintable() and len(line) < 600
    return False


@pytest.fixture
def records(tmp_path: Path) -> dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], Any]]]:
    """Per kind of file a good record, and what reads one."""
    pictures = np.random.default_rng(0).random((3, 3, 16, 16))
    protocol = Protocol.load("offline").only(("pixcorr",))
    truth = from_arrays(pictures, IDS)
    result = Benchmark(protocol, truth, store=None, n_bootstrap=2).score(
        {"subj01": [from_arrays(pictures**2, IDS)]}, "Mine"
    )
    folder = result.write(tmp_path / "result")
    reading = Reading("grey", "over grey", 0.5, 0.25, 0.75, True, "above 0").as_dict()
    one = {"n_images": 3, "readings": [reading], "per_image": {"image_id": IDS}}
    head = {"schema": 1, "brainit_eval": "0.1.0", "n_bootstrap": 5, "seed": 0}
    trials = plan_trials("methods", ["a", "b"], ["s1"], IDS, trials=6, catch=1, seed=0)
    key = Key("0123456789abcdef", trials, {"seed": 0})
    key.write(tmp_path / "key.json")
    answers = [{"place": t.place, "side": t.side, "ms": 9} for t in trials]
    sheet = {"schema": 1, "study": key.study, "page": 1, "rater": "r", "answers": answers}

    def by_file(path: Path, read: Callable[[], Any]) -> Callable[[dict[str, Any]], Any]:
        def written(record: dict[str, Any]) -> Any:
            path.write_text(json.dumps(record), encoding="utf-8")
            return read()

        return written

    record, controls = folder / "result.json", tmp_path / "controls.json"
    again, answered = tmp_path / "again.json", tmp_path / "answers.json"
    known = json.loads(record.read_text())
    return {
        "result": (known, by_file(record, lambda: Result.read(folder))),
        "controls": (
            {**head, "features": "thumbnail", "subjects": {"subj01": one}},
            by_file(controls, lambda: Controls.read(controls)),
        ),
        "key": (
            json.loads((tmp_path / "key.json").read_text()),
            by_file(again, lambda: Key.read(again)),
        ),
        "answers": (
            sheet,
            by_file(answered, lambda: analyse([answered], tmp_path / "key.json", 2, 0)),
        ),
        "protocol": (read_toml_of("offline"), lambda data: Protocol.parse(data, "mine.toml")),
    }


def read_toml_of(name: str) -> dict[str, Any]:
    from importlib import resources

    return read_toml(Path(str(resources.files("brainit_eval"))) / "protocols" / f"{name}.toml")


@pytest.mark.parametrize("kind", ["result", "controls", "key", "answers", "protocol"])
def test_no_value_of_a_record_does_harm(records, kind: str) -> None:
    good, read = records[kind]
    read(good)
    for place, value in list(spoilt(good)):
        for payload in PAYLOADS:
            if payload == value and type(payload) is type(value):
                continue
            changed = put(good, place, payload)
            if refused(lambda: read(changed)):  # noqa: B023 - called at once
                continue
            number = isinstance(value, int | float) and isinstance(payload, int | float)
            loose = {"settings", "options", "detail", "versions", "per_subject", "test_set"}
            fits = number or type(payload) is type(value) or loose & set(place)
            assert fits or payload is None, f"{place}: {payload!a:.80} was taken"
            if isinstance(payload, str):
                assert payload.isprintable() or loose & set(place), f"{place}: {payload!a:.80}"


@pytest.mark.parametrize("kind", ["result", "protocol"])
def test_a_key_that_nobody_asked_for_is_refused(records, kind: str) -> None:
    good, read = records[kind]
    for name in ("_target_", "class_name", "__import__", "x" * 10**6, "a\nb", "\u202e"):
        assert refused(lambda: read({**good, name: "os.system"})), name[:20]  # noqa: B023


def test_what_is_no_record_at_all_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b"{" * 10**5,
    ):
        path.write_bytes(content)
        assert refused(lambda: read_json(path)), content[:20]
    for content in (b"\xff", b"a = 1\na = 2", b"a = ", b"[a]\n[a]", b"a=" + b"[" * 10**5):
        path.write_bytes(content)
        assert refused(lambda: read_toml(path)), content[:20]
    path.write_bytes(b'{"a": "' + b"x" * 5 * 2**20 + b'"}')
    assert refused(lambda: read_json(path))


@pytest.mark.parametrize(
    "rows", ["1,=cmd()", "1,<b>", "1,\u202ex", "../x,food", "1,food\n01,food", "1,", ",food", "1"]
)
def test_categories_that_would_hurt_a_table_are_refused(tmp_path: Path, rows: str) -> None:
    path = tmp_path / "kinds.csv"
    path.write_text(f"image_id,category\n{rows}\n", encoding="utf-8")
    assert refused(lambda: read_categories(path))
