from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from brainit_eval.records.per_image import PerImage
from brainit_eval.records.result import DIRECTIONS, Result, ids_hash, rank_key
from brainit_eval.records.result_parts import (
    MetricScore,
    ProtocolRecord,
    TestSet,
    WeightsRecord,
    settings_hash,
)

SUBJECTS = ("subj01", "subj02")
SETTINGS = {"front": [{"size": 256}]}
IDS = ["73", "2951", "14"]


def result(samples: int = 2) -> Result:
    generator = np.random.default_rng(0)
    keys = [(s, k, i) for s in SUBJECTS for k in range(samples) for i in IDS]
    names = {"pixcorr": True, "two_way_clip": True, "swav": False}
    values = {name: generator.random(len(keys)) for name in names}
    values["pixcorr"][1] = math.nan
    return Result(
        method="Ridge (40 h)",
        protocol=ProtocolRecord("mine", settings_hash(SETTINGS), SETTINGS),
        test_set=TestSet("three", 3, ids_hash(dict.fromkeys(SUBJECTS, IDS))),
        subjects=SUBJECTS,
        samples=samples,
        metrics={
            name: MetricScore(1 / 3, math.nan, 0.1 + 0.2, up, {"subj01": 0.1, "subj02": math.nan})
            for name, up in names.items()
        },
        per_image=PerImage(*(np.array(c) for c in zip(*keys, strict=True)), values),
        ranks={
            rank_key(s, k, "two_way_clip", d): generator.integers(0, 3, 3)
            for s in SUBJECTS
            for k in range(samples)
            for d in DIRECTIONS
        },
        weights={"clip": WeightsRecord("ViT-L/14", "b" * 64)},
        versions={"torch": "2.10"},
        options={"bootstrap": 100},
        warnings=("one line",),
    )


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    before = result()
    after = Result.read(before.write(tmp_path / "deep" / "mine"))
    assert repr(replace_tables(after)) == repr(replace_tables(before))
    np.testing.assert_array_equal(after.per_image.subject, before.per_image.subject)
    np.testing.assert_array_equal(after.per_image.sample, before.per_image.sample)
    np.testing.assert_array_equal(after.per_image.image_id, before.per_image.image_id)
    for name, values in before.per_image.values.items():
        np.testing.assert_array_equal(after.per_image.values[name], values)  # every bit
    assert set(after.ranks) == set(before.ranks)
    for key, ranks in before.ranks.items():
        np.testing.assert_array_equal(after.ranks[key], ranks)


def test_all_files_may_be_read_by_whom_the_user_lets(tmp_path: Path) -> None:
    folder = result().write(tmp_path / "mine")
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1


def replace_tables(result: Result) -> dict[str, object]:
    return {k: v for k, v in vars(result).items() if k not in ("per_image", "ranks")}


def test_a_result_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    folder = result().write(tmp_path / "mine")
    with pytest.raises(FileExistsError, match="exists already"):
        result().write(folder)
    assert Result.read(result(1).write(folder, overwrite=True)).samples == 1
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="holds more"):
        result().write(folder, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]  # nothing temporary left


def test_a_failed_write_leaves_the_old_result(tmp_path: Path, monkeypatch) -> None:
    folder = result(1).write(tmp_path / "mine")
    monkeypatch.setattr("brainit_eval.records.result._write_ranks", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        result(2).write(folder, overwrite=True)
    assert Result.read(folder).samples == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_hash_of_a_test_set_knows_no_order_and_no_zeros() -> None:
    one = ids_hash({"a": ["00073", "9"], "b": [9, 73]})
    assert one == ids_hash({"b": [73, 9], "a": ["9", "73"]}) == ids_hash({"a": [9, 73]})
    assert one != ids_hash({"a": [9, 74]})
    assert ids_hash({"a": [1], "b": [2]}) != ids_hash({"a": [2], "b": [1]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "=cmd()"}, "method"),
        ({"method": "a\nb"}, "method"),
        ({"subjects": ("subj02", "subj01")}, "in order"),
        ({"samples": 3}, "samples 0 to 2"),
        ({"metrics": {}}, "one column for each"),
        ({"ranks": {"subj01/0/two_way_clip/up": np.zeros(3, np.int64)}}, "direction"),
        ({"ranks": {rank_key("subj01", 0, "two_way_clip"): np.full(3, 3)}}, "from 0 to 2"),
        ({"ranks": {rank_key("subj01", 0, "two_way_clip"): np.zeros(2, np.int64)}}, "3 int64"),
        ({"protocol": ProtocolRecord("mine", "0123", {})}, "64 hexadecimal"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        replace(result(), **change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"schema": 1', '"schema": 2'),
        ('"size": 256', '"size": 255'),  # then the hash is another
        ('"samples": 2', '"samples": "2**9"'),
        ('"samples": 2', '"samples": 1' + "0" * 5000),
        ('"samples": 2', '"samples": 2, "samples": 2'),
        ('"samples": 2', '"samples": true'),
        ('"samples": 2', '"samples": 2, "_target_": "os.system"'),
        ('"value": 0.3', '"value": NaN, "x": 0.3'),
        ('"value": 0.3', '"value": 1e999, "x": 0.3'),
        ('"subj01": 0.1', '"subj01": "__import__"'),
        ('"method": "Ridge (40 h)"', '"method": "<script>alert(1)</script>"'),
        ('"method": "Ridge (40 h)"', '"method": ["!!python"]'),
        ('"pixcorr": {', '"../pixcorr": {'),
        ('"pixcorr": {', '"' + "k" * (1 << 20) + '": {'),
        ('"options": {', '"options": ' + "[" * 50_000 + "{"),
        ("{", "["),
        ("", None),
    ],
)
def test_a_damaged_record_is_one_clear_line(tmp_path: Path, old: str, new: str | None) -> None:
    folder = result().write(tmp_path / "mine")
    path = folder / "result.json"
    text = path.read_text()
    assert old in text
    path.write_text("" if new is None else text.replace(old, new, 1))
    with pytest.raises(ValueError, match=r"result\.json|mine") as caught:
        Result.read(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["per_image.csv", "ranks.safetensors", "result.json"])
def test_a_damaged_or_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = result().write(tmp_path / "mine")
    content = (folder / name).read_bytes()
    for size in range(0, len(content), 64):
        (folder / name).write_bytes(content[:size])
        if name == "per_image.csv" and size > 600:
            continue  # a cut inside the last number leaves a number
        with pytest.raises(ValueError, match="mine"):
            Result.read(folder)
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        Result.read(folder)


def test_a_sample_number_beyond_int64_is_one_clear_line(tmp_path: Path) -> None:
    path = result().write(tmp_path / "mine") / "per_image.csv"
    path.write_text(path.read_text().replace("subj01,0,", f"subj01,{9**30},", 1))
    with pytest.raises(ValueError, match=r"per_image\.csv"):
        Result.read(path.parent)


@pytest.mark.parametrize("failing", [1, 2])
def test_an_older_result_outlives_an_interrupted_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    folder = result(2).write(tmp_path / "mine")
    calls = []
    rename = Path.rename

    def interrupted(path: Path, target: Path) -> Path:
        calls.append(path)
        if len(calls) == failing:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        result(1).write(folder, overwrite=True)
    assert Result.read(folder).samples == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_table_cut_anywhere_is_refused(tmp_path: Path) -> None:
    folder = result().write(tmp_path / "mine")
    path = folder / "per_image.csv"
    lines = path.read_text().splitlines(keepends=True)
    for cut in range(len(lines)):
        path.write_text("".join(lines[:cut]))
        with pytest.raises(ValueError, match="mine"):
            Result.read(folder)


def test_the_record_is_strict_json(tmp_path: Path) -> None:
    text = (result().write(tmp_path / "mine") / "result.json").read_text()
    data = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert data["metrics"]["swav"]["low"] is None
    assert data["metrics"]["swav"]["higher_is_better"] is False
