from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from brainit_eval.cli import app
from brainit_eval.records.per_image import PerImage
from brainit_eval.records.result import Result, ids_hash
from brainit_eval.records.result_parts import MetricScore, ProtocolRecord, TestSet, settings_hash
from brainit_eval.statistics import compare, holm, sign_flip_test

IDS = [str(73_000 - k) for k in range(30)]
SUBJECTS = ("subj01", "subj02")
BETTER = {"clip": True, "distance": False, "same": True}  # metric -> higher is better


def result(method: str, lift: float, seed: int, samples: int = 2, order=None) -> Result:
    """Scores whose images share their difficulty; `lift` is how much better the method is."""
    order = range(30) if order is None else order
    hardness = np.random.default_rng(0).normal(size=30)
    generator = np.random.default_rng(seed)
    rows = [(s, k, IDS[i], i) for s in SUBJECTS for k in range(samples) for i in order]
    subject, sample, image, place = (np.array(column) for column in zip(*rows, strict=True))
    noise = {name: 0.3 * generator.normal(size=30) for name in BETTER}
    values = {
        name: hardness[place]
        + noise[name][place]
        + {"clip": lift, "distance": -lift, "same": 0}[name]
        for name in BETTER
    }
    metrics = {
        name: MetricScore(float(values[name].mean()), float("nan"), float("nan"), up, {})
        for name, up in BETTER.items()
    }
    return Result(
        method=method,
        protocol=ProtocolRecord("mine", settings_hash({}), {}),
        test_set=TestSet("thirty", 30, ids_hash(dict.fromkeys(SUBJECTS, IDS))),
        subjects=SUBJECTS,
        samples=samples,
        metrics=metrics,
        per_image=PerImage(subject, sample, image, values),
        ranks={},
    )


def test_the_better_method_is_named_by_the_metric_s_direction() -> None:
    found = compare(result("A", 0.8, 1), result("B", 0.0, 2), n_permutations=2000)
    assert found.metrics["clip"].better == "first"
    assert found.metrics["distance"].better == "first"
    assert found.metrics["distance"].difference < 0
    assert found.metrics["same"].better is None
    turned = compare(result("B", 0.0, 2), result("A", 0.8, 1), n_permutations=2000)
    for name, row in found.metrics.items():
        other = turned.metrics[name]
        assert (row.p, row.p_holm) == (other.p, other.p_holm)
        assert (row.low, row.high) == pytest.approx((-other.high, -other.low))
        assert row.low < row.difference < row.high
        assert row.p_subjects >= 0.5  # two subjects: 2 / 2^2
    assert {name: row.p_holm for name, row in found.metrics.items()} == holm(
        {name: row.p for name, row in found.metrics.items()}
    )


def test_numbers_are_those_of_the_per_image_table() -> None:
    first, second = result("A", 0.1, 1), result("B", 0.0, 2)
    found = compare(first, second, n_permutations=500, seed=3).metrics["clip"]
    gaps = {}
    for subject in SUBJECTS:
        table = [
            np.mean([r.per_image.values["clip"][r.per_image.rows(subject, k)] for k in (0, 1)], 0)
            for r in (first, second)
        ]
        gaps[subject] = table[0] - table[1]
    truth = sign_flip_test(gaps, dict.fromkeys(SUBJECTS, IDS), n_permutations=500, seed=3)
    assert found.p == truth.p
    assert found.difference == pytest.approx(truth.difference, abs=1e-12)
    assert found.first - found.second == pytest.approx(found.difference, abs=1e-12)


def test_the_order_of_rows_does_not_matter() -> None:
    mixed = np.random.default_rng(9).permutation(30)
    kept = compare(result("A", 0.1, 1), result("B", 0.0, 2), n_permutations=500)
    found = compare(result("A", 0.1, 1, order=mixed), result("B", 0.0, 2), n_permutations=500)
    for name, row in found.metrics.items():
        assert vars(row) == pytest.approx(vars(kept.metrics[name]), abs=1e-12)


def test_what_a_few_subjects_can_show_is_said() -> None:
    notes = " ".join(compare(result("A", 0, 1), result("B", 0, 2), n_permutations=99).notes)
    assert "0.25 one-sided and 0.5 two-sided" in notes
    assert "0.01" in notes


def test_results_that_cannot_be_compared_are_refused() -> None:
    first, second = result("A", 0.1, 1), result("B", 0.0, 2)
    other = ProtocolRecord("other", "b" * 64, {})
    with pytest.raises(
        ValueError, match=r"one protocol, got mine \(44136fa355b3678a\) and other \(b{16}\)"
    ):
        compare(first, replace(second, protocol=other))
    with pytest.raises(ValueError, match="one test set"):
        compare(first, replace(second, test_set=TestSet("982", 30, "c" * 64)))
    one = second.per_image.subject == "subj01"
    part = PerImage(
        second.per_image.subject[one],
        second.per_image.sample[one],
        second.per_image.image_id[one],
        {name: values[one] for name, values in second.per_image.values.items()},
    )
    with pytest.raises(ValueError, match="same subjects"):
        compare(first, replace(second, subjects=("subj01",), per_image=part))
    renamed = replace(second.per_image, image_id=np.char.add(second.per_image.image_id, "x"))
    with pytest.raises(ValueError, match="same images"):
        compare(first, replace(second, per_image=renamed))
    values = {name: column.copy() for name, column in second.per_image.values.items()}
    values["clip"][3] = np.nan
    with pytest.raises(ValueError, match="clip: subj01: expected finite"):
        compare(first, replace(second, per_image=replace(second.per_image, values=values)))


def test_the_command_prints_a_table_and_writes_json(tmp_path) -> None:
    result("A", 0.8, 1).write(tmp_path / "a")
    result("B", 0.0, 2).write(tmp_path / "b")
    out = tmp_path / "comparison.json"
    arguments = ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(out)]
    ran = CliRunner().invoke(app, [*arguments, "--permutations", "500"])
    assert ran.exit_code == 0, ran.output
    assert "clip ↑" in ran.output
    assert "one-sided" in ran.output
    record = json.loads(out.read_text())
    assert record["metrics"]["clip"]["better"] == "first"
    assert record["metrics"]["clip"]["p"] >= 1 / 501
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1
    assert "exists already" in again.output
    other = ProtocolRecord("x", settings_hash({"front": None}), {"front": None})
    replace(result("B", 0, 2), protocol=other).write(tmp_path / "c")
    refused = CliRunner().invoke(app, ["compare", str(tmp_path / "a"), str(tmp_path / "c")])
    assert refused.exit_code == 1
    assert "not comparable" in refused.output
    assert len(refused.output.strip().splitlines()) == 1
