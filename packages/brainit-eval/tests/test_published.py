from __future__ import annotations

import re

import pytest

from brainit_eval.leaderboard.published import CONFIDENCE, HUMAN, load_published
from brainit_eval.protocol import Protocol, frozen_protocols

ROW = """
paper = "P"
citation = "P et al."
[[row]]
method = "M"
protocol = "mindeye2-1000"
test_set = "nsd-shared-1000"
n_images = 1000
subjects = ["subj01"]
source = "Table 1"
confidence = "paper"
[row.scores]
pixcorr = 0.3
ssim = { value = 0.4, source = "Table 2", confidence = "note" }
"""


def find(method: str, hours: float, protocol: str | None):
    rows = load_published()
    (row,) = (r for r in rows if (r.method, r.hours, r.protocol) == (method, hours, protocol))
    return row


def test_every_number_has_a_source_and_a_mark() -> None:
    rows = load_published()
    assert len(rows) > 25
    for row in rows:
        tables = [row.scores, *row.per_subject.values()]
        for number in (number for table in tables for number in table.values()):
            assert number.source
            assert number.confidence in CONFIDENCE


def test_rows_are_found_as_printed() -> None:
    # MindEye2, Table 1 and appendix A.5.
    row = find("MindEye2", 40, "mindeye2-1000")
    assert [number.value for number in row.scores.values()] == [
        0.322, 0.431, 0.961, 0.986, 0.954, 0.930, 0.619, 0.344,
    ]  # fmt: skip
    assert row.per_subject["subj07"]["two_way_alexnet2"].value == 0.9425


@pytest.mark.parametrize("hours", [40, 1])
def test_the_means_over_subjects_agree_with_the_table(hours) -> None:
    row = find("MindEye2", hours, "mindeye2-1000")
    for name, number in row.scores.items():
        mean = sum(table[name].value for table in row.per_subject.values()) / 4
        # Three digits in the table, three (or four) in the appendix: half a unit each.
        assert abs(mean - number.value) <= 0.001 + 1e-12, name


def test_what_could_not_be_confirmed_is_empty() -> None:
    brain_it = find("Brain-IT", 1, "mindeye2-1000")
    assert set(brain_it.scores) == {"pixcorr", "ssim", "two_way_alexnet2"}
    assert "effnet" not in find("Brain-Diffuser", 37, "braindiffuser-982").scores
    mindeye1 = find("MindEye1", 37, None)
    assert set(mindeye1.scores) == {"pixcorr", "ssim", "two_way_alexnet2", "two_way_alexnet5"}


def test_protocol_and_test_set_go_together() -> None:
    for row in load_published():
        if row.protocol in frozen_protocols():
            protocol = Protocol.load(row.protocol)
            assert (row.test_set, row.n_images) == (protocol.test_set, protocol.n_images)
            assert set(row.scores) <= set(protocol.metrics)
        else:
            assert row.protocol in (None, HUMAN)


def test_a_number_may_have_its_own_source(tmp_path) -> None:
    (tmp_path / "p.toml").write_text(ROW)
    (row,) = load_published(tmp_path)
    assert (row.scores["pixcorr"].source, row.scores["pixcorr"].confidence) == ("Table 1", "paper")
    assert (row.scores["ssim"].source, row.scores["ssim"].confidence) == ("Table 2", "note")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('confidence = "paper"', 'confidence = "sure"', "confidence"),
        ('source = "Table 1"\n', "", "source"),
        ("pixcorr = 0.3", "pixcorr = 38.6", "expected -1 to 1"),
        ("pixcorr = 0.3", "pixcorr = nan", "pixcorr"),
        ("pixcorr = 0.3", "lpips = 0.3", "no metric 'lpips'"),
        ("mindeye2-1000", "mindeye3", "expected one of braindiffuser-982"),
        ('test_set = "nsd-shared-1000"\n', "", "needs test_set"),
        ('method = "M"', 'method = "M"\nyear = 2024', "unknown key 'year'"),
    ],
)
def test_bad_files_are_refused_with_their_place(tmp_path, old, new, message) -> None:
    assert old in ROW
    (tmp_path / "p.toml").write_text(ROW.replace(old, new, 1))
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load_published(tmp_path)
    assert "p.toml: row[0]" in str(caught.value)


def test_an_empty_folder_is_no_source(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape("*.toml")):
        load_published(tmp_path)
