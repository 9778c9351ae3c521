from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from brainit_eval.cli import app
from brainit_eval.leaderboard.board import leaderboard
from brainit_eval.leaderboard.published import Number, PublishedRow, load_published
from brainit_eval.leaderboard.text import markdown, terminal
from brainit_eval.protocol import Protocol
from brainit_eval.records.per_image import PerImage
from brainit_eval.records.result import Result, ids_hash
from brainit_eval.records.result_parts import MetricScore, ProtocolRecord, TestSet

ALL = ("subj01", "subj02", "subj05", "subj07")


def result(protocol: str = "mindeye2-1000", subjects=ALL, only=(), **changes) -> Result:
    chosen = Protocol.load(protocol)
    chosen = chosen.only(only) if only else chosen
    keys = [(subject, 0, image) for subject in subjects for image in ("1", "2")]
    table = PerImage(
        *(np.array(column) for column in zip(*keys, strict=True)),
        {name: np.full(len(keys), 0.5) for name in chosen.metrics},
    )
    made = Result(
        method="Mine, v2",
        protocol=ProtocolRecord(chosen.name, chosen.hash, chosen.settings),
        test_set=TestSet(chosen.test_set or "mine", chosen.n_images or 2, ids_hash({"s": ["1"]})),
        subjects=tuple(subjects),
        samples=1,
        metrics={
            name: MetricScore(0.5, 0.45, 0.55, spec.higher_is_better, dict.fromkeys(subjects, 0.5))
            for name, spec in chosen.metrics.items()
        },
        per_image=table,
        ranks={},
    )
    return replace(made, **changes)


def published(**changes) -> PublishedRow:
    number = Number(0.4, "Table 1", "paper")
    row = PublishedRow(
        method="Theirs",
        paper="Paper",
        citation="They, 2025",
        hours=40.0,
        protocol="mindeye2-1000",
        test_set="nsd-shared-1000",
        n_images=1000,
        subjects=ALL,
        note="",
        scores={"effnet": number},
        per_subject={},
    )
    return replace(row, **changes)


def test_the_same_protocol_stands_together_and_the_rest_is_named() -> None:
    board = leaderboard([result()], load_published())
    names = {(line.method, line.hours) for line in board.lines}
    assert {("MindEye2", 40.0), ("MindEye2", 1.0), ("Brain-IT", 40.0), ("Mine, v2", None)} <= names
    out = dict(board.left_out)
    assert out["Brain-Diffuser (37 h), Brain-Diffuser"].startswith("its test set is nsd-shared-982")
    assert out["MindEye1 (37 h), MindEye1"] == "its protocol is not known"
    assert out["MindEye2 (40 h), MindEye2"] == "its protocol is human-2afc"
    assert len(board.lines) - 1 + len(board.left_out) == len(load_published())


@pytest.mark.parametrize(
    ("mine", "reason"),
    [
        (result("mindeye2-1000-aa"), "other settings"),
        (result("braindiffuser-982"), "test set is nsd-shared-1000"),
        (result("native-425"), "test set is nsd-shared-1000"),
        (result(subjects=("subj01",)), "mean over subj01, subj02"),
        (result(only=("pixcorr",)), "no metric of the result"),
        (
            result(test_set=TestSet("nsd-shared-1000", 999, ids_hash({"s": ["1"]}))),
            "test set is nsd-shared-1000 (1000 images)",
        ),
    ],
)
def test_what_differs_is_left_out_with_the_reason(mine, reason) -> None:
    board = leaderboard([mine], [published()])
    assert [line.method for line in board.lines] == ["Mine, v2"]
    assert reason in board.left_out[0][1]


def test_a_name_alone_does_not_make_a_protocol() -> None:
    other = Protocol.load("mindeye2-1000-aa")
    mine = result(protocol="mindeye2-1000-aa")
    mine = replace(mine, protocol=ProtocolRecord("mindeye2-1000", other.hash, other.settings))
    assert "other settings" in leaderboard([mine], [published()]).left_out[0][1]


def test_a_part_of_the_protocol_still_compares_its_metrics() -> None:
    row = published(scores={name: Number(0.4, "T", "paper") for name in ("pixcorr", "effnet")})
    board = leaderboard([result(only=("pixcorr", "ssim"))], [row])
    assert [set(line.scores) for line in board.lines if not line.own] == [{"pixcorr"}]
    changed = result(only=("pixcorr",))
    settings = dict(changed.protocol.settings)
    settings["metrics"] = {"pixcorr": settings["metrics"]["pixcorr"] | {"resize": None}}
    changed = replace(changed, protocol=replace(changed.protocol, settings=settings))
    assert len(leaderboard([changed], [row]).lines) == 1


def test_another_first_step_is_another_protocol() -> None:
    mine = result()
    settings = {**mine.protocol.settings, "front": None}  # every metric is as in theirs
    mine = replace(mine, protocol=replace(mine.protocol, settings=settings))
    assert "other settings" in leaderboard([mine], [published()]).left_out[0][1]


def test_numbers_per_subject_are_averaged_over_yours() -> None:
    per_subject = {
        "subj01": {"effnet": Number(0.6, "A", "paper"), "swav": Number(0.1, "A", "paper")},
        "subj02": {"effnet": Number(0.8, "A", "paper")},
    }
    row = published(per_subject=per_subject)
    board = leaderboard([result(subjects=("subj02", "subj01"))], [row])
    theirs = next(line for line in board.lines if not line.own)
    assert theirs.scores["effnet"].value == pytest.approx(0.7)
    assert set(theirs.scores) == {"effnet"}


def test_lines_are_ranked_by_the_metric_and_its_direction() -> None:
    def named(name: str, value: float) -> PublishedRow:
        scores = {key: Number(value, "T", "note") for key in ("effnet", "pixcorr")}
        return published(method=name, scores=scores)

    rows = [named("low", 0.1), named("high", 0.9), published(method="empty", scores={
        "ssim": Number(0.4, "T", "paper")})]  # fmt: skip
    by_distance = leaderboard([result()], rows)
    assert by_distance.ranked_by.name == "effnet"
    assert [line.method for line in by_distance.lines] == ["low", "Mine, v2", "high", "empty"]
    by_correlation = leaderboard([result()], rows, "pixcorr")
    assert [line.method for line in by_correlation.lines] == ["high", "Mine, v2", "low", "empty"]
    with pytest.raises(ValueError, match="ranked_by: expected one of pixcorr"):
        leaderboard([result()], rows, "fid")


def test_results_that_differ_have_no_common_board() -> None:
    for other, what in (
        (result("mindeye2-1000-aa"), "protocol"),
        (result(subjects=("subj01",)), "subjects"),
        (result(test_set=TestSet("nsd-shared-1000", 1000, ids_hash({"s": ["2"]}))), "test set"),
    ):
        with pytest.raises(ValueError, match=f"differ in {what}"):
            leaderboard([result(), other], [])
    with pytest.raises(ValueError, match="one result or more"):
        leaderboard([], [])


def test_markdown_is_a_table_with_marks_notes_and_reasons() -> None:
    rows = [
        published(scores={"effnet": Number(0.4321, "T", "note")}, note="<b>inferred</b>"),
        published(method="Unknown", protocol=None),
    ]
    text = markdown(leaderboard([result(warnings=("look here",))], rows))
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 4
    assert len({line.count("|") for line in table}) == 1
    assert "| **Mine, v2 [3]** |" in table[3]
    assert "50.0 [45.0, 55.0]" in table[3]
    assert "| 0.432 † |" in table[2]
    assert "2. Theirs: &lt;b>inferred&lt;/b>" in text
    assert "3. look here" in text
    assert "- Unknown (40 h), Paper: its protocol is not known" in text


def test_terminal_table_is_aligned() -> None:
    text = terminal(leaderboard([result()], [published()]))
    header = next(line for line in text.splitlines() if line.startswith("  Method"))
    mine = next(line for line in text.splitlines() if line.startswith("> Mine"))
    assert mine.index("0.500 [0.450") == header.index("PixCorr")
    assert "EffNet-B ↓" in header


def test_the_command_prints_the_board(tmp_path) -> None:
    folder = result().write(tmp_path / "mine")
    plain = CliRunner().invoke(app, ["leaderboard", str(folder)])
    assert plain.exit_code == 0
    assert "MindEye2" in plain.output
    assert "Left out" in plain.output
    marked = CliRunner().invoke(app, ["leaderboard", str(folder), "--markdown"])
    assert "| **Mine, v2** |" in marked.output
    missing = CliRunner().invoke(app, ["leaderboard", str(tmp_path / "none")])
    assert missing.exit_code == 1
    assert missing.output.count("\n") == 1
