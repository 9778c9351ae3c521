"""Experiments' arithmetic against plain computations, and runs that take over what is the same."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from rich.console import Console

from brainit.experiments import (
    attention,
    branches,
    image_scores,
    left_out,
    lesions,
    runs,
    scenes,
    transfer,
    trials,
)
from brainit.experiments.findings import Findings, dots, write
from brainit.experiments.image_scores import (
    COMPARED,
    ImageScores,
    difference,
    mean,
    read,
    share,
    together,
)
from brainit.pipeline import applicable
from brainit.profile import load_profile
from brainit.run_folder import RunFolder
from brainit_clusters.data.dataset import BrainDataset
from brainit_clusters.data.record import SubjectData
from brainit_clusters.data.writing import write_dataset

QUIET = Console(quiet=True)
RNG = np.random.default_rng(5)


def _scores(level: float, repetitions: int = 1, n: int = 40, seed: int = 0) -> ImageScores:
    rng = np.random.default_rng([seed, n])
    names = ("subj01", "subj02")
    values = {k: (level + 0.1 * rng.normal(size=(repetitions, n))).clip(0, 1) for k in names}
    return ImageScores(values, {k: np.arange(n) * 7 for k in names})


def _subject(name: str, ids: list[int], split: str, voxels: int = 5) -> SubjectData:
    n = len(ids)
    return SubjectData(
        name=name,
        betas=RNG.normal(size=(n, voxels)).astype(np.float16).astype(np.float32),
        image_id=np.array(ids),
        repeats=np.full(n, 3, np.int16),
        split=np.full(n, split),
        vertex=np.arange(voxels, dtype=np.int32),
        hemisphere=np.zeros(voxels, np.uint8),
        noise_ceiling=np.full(voxels, 0.5, np.float32),
    )


def test_mean_is_over_subjects_and_its_interval_is_the_bootstraps() -> None:
    scores = _scores(0.7)
    found = mean(scores)
    tables = np.stack([v[0] for v in scores.values.values()])
    assert found.value == pytest.approx(tables.mean())
    # Both subjects saw the same images, which are drawn jointly: resample columns.
    rng = np.random.default_rng(1)
    draws = [tables[:, rng.integers(0, 40, 40)].mean() for _ in range(4000)]
    expected = np.quantile(draws, (0.025, 0.975))
    # A percentile of 2,000 draws of a mean with deviation 0.011 has an error of about 0.0007.
    np.testing.assert_allclose((found.low, found.high), expected, atol=3e-3)


def test_difference_is_paired() -> None:
    other = _scores(0.6)
    shifted = ImageScores({k: v + 0.05 for k, v in other.values.items()}, other.ids)
    gap = difference(shifted, other)
    # The same shift of every image leaves nothing to resample, however much images differ.
    np.testing.assert_allclose((gap.value, gap.low, gap.high), 0.05, atol=1e-12)
    assert gap.verdict == "higher"
    assert gap.p < 0.01
    assert difference(other, shifted).verdict == "lower"
    assert difference(other, other).verdict.startswith("unclear")
    fewer = ImageScores({k: v[:, 1:] for k, v in other.values.items()},
                        {k: v[1:] for k, v in other.ids.items()})  # fmt: skip
    with pytest.raises(ValueError, match="same images"):
        difference(other, fewer)


def test_share_is_of_what_lies_above_chance() -> None:
    whole = _scores(0.8)
    part = ImageScores({k: 0.5 + 0.8 * (v - 0.5) for k, v in whole.values.items()}, whole.ids)
    found = share(part, whole)
    np.testing.assert_allclose((found.value, found.low, found.high), 0.8, atol=1e-12)
    loose = share(_scores(0.74, seed=1), whole)
    assert loose.low < loose.value < loose.high
    means = [np.mean([v.mean() for v in s.values.values()]) for s in (_scores(0.74, seed=1), whole)]
    assert loose.value == pytest.approx((means[0] - 0.5) / (means[1] - 0.5))


def test_repetitions_widen_nothing_but_are_averaged() -> None:
    one, two = _scores(0.6, seed=1), _scores(0.8, seed=2)
    both = image_scores.repetitions([one, two])
    assert both.values["subj01"].shape == (2, 40)
    assert mean(both).value == pytest.approx((mean(one).value + mean(two).value) / 2)
    with pytest.raises(ValueError, match="same images"):
        image_scores.repetitions([one, _scores(0.6, n=30)])


def test_subjects_of_several_runs_come_together() -> None:
    one = _scores(0.6).only(["subj01"])
    pool = together({"a": one, "b": _scores(0.8).only(["subj02"])})
    assert list(pool.values) == ["subj01", "subj02"]
    assert list(together({"a": one, "b": one}).values) == ["a subj01", "b subj01"]


def test_scores_are_read_by_subject_and_repetition(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, load_profile("tiny"))
    path = tmp_path / "per_image.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "repetition", "subject", "image_id", "two_way_late"])
        for method, r, subject, image, value in [
            ("fused", 0, "subj01", 3, 0.1), ("fused", 0, "subj01", 9, 0.2),
            ("fused", 1, "subj01", 3, 0.3), ("fused", 1, "subj01", 9, 0.4),
            ("coarse", 0, "subj01", 3, 0.9), ("coarse", 0, "subj01", 9, 0.9),
        ]:  # fmt: skip
            writer.writerow([method, r, subject, image, value])
    run.finish("evaluate", "f", 0.0, {"per_image": path})
    found = read(run)
    np.testing.assert_array_equal(found.values["subj01"], [[0.1, 0.2], [0.3, 0.4]])
    assert found.ids["subj01"].tolist() == [3, 9]


def test_findings_are_written_whole(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", load_profile("tiny"))
    gap = difference(_scores(0.7), _scores(0.6))
    figure = dots({"a": {"x": mean(_scores(0.7)), "y": mean(_scores(0.6))}}, "score", 0.5)
    found = Findings(
        "Title", "Question?", {"base": run}, tests={"one - other": gap, "again": gap},
        sentences=["It came out."], numbers={"array": np.arange(3), "image": figure.get_label()},
    )  # fmt: skip
    page = write(found, "branches", run, tmp_path / "out").read_text()
    assert "Question? It came out." in page
    assert f"{gap.value:+.3f}" in page
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["tests"]["again"]["p_holm"] == pytest.approx(min(1, 2 * gap.p))
    assert results["numbers"]["array"] == [0, 1, 2]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["runs"] == {"base": str(run.path.resolve())}
    plt.close("all")


def test_order_of_branches_is_held_against_the_papers() -> None:
    gap = difference(_scores(0.7), _scores(0.6))
    equal = replace(gap, value=0.001, low=-0.1, high=0.1)
    tests = {"m: a - b": gap, "m: b - c": equal}
    said = branches.sentence("m", ("b", "a"), tests)
    assert "b less a -0.1" in said
    assert "against the paper" in said
    assert "unclear" in branches.sentence("m", ("b", "c"), tests)


def test_transfer_reports_shares_of_all_data(tmp_path: Path) -> None:
    levels = {15: 0.74, 30: 0.77, 60: 0.79, 0: 0.8}
    run = _finished(tmp_path / "run")
    kinds = {("adapted", m): _scores(level, 3) for m, level in levels.items()}
    kinds |= {("scratch", m): _scores(0.55, 1) for m in levels}
    scores = {features: kinds for features in COMPARED}
    found = transfer.findings({key: [run] for key in kinds}, scores, "subj04")
    assert len(found.figures) == len(COMPARED)
    value = found.estimates["15 min, share of all data above chance, late features"].value
    part, whole = (mean(kinds["adapted", m]).value for m in (15, 0))
    assert value == pytest.approx((part - 0.5) / (whole - 0.5))
    assert found.tests["15 min: adapted - from scratch, CLIP"].verdict == "higher"
    assert transfer.overrides(15, 3) == ["data.minutes=15", "data.draw=random", "seed=3"]
    load_profile("tiny", transfer.overrides(15, 3))
    assert left_out.amount(0) == "all"


def _finished(folder: Path) -> RunFolder:
    """A run with scores in it, made up."""
    run = RunFolder(folder, load_profile("tiny"))
    score = {"value": 0.6, "low": 0.5, "high": 0.7, "higher_is_better": True}
    methods = ("fused", "coarse", "semantic", "shuffled", "recovered")
    text = json.dumps({method: {"two_way_late": score} for method in methods})
    (folder / "scores.json").write_text(text)
    run.finish("evaluate", "f", 0.0, {"scores": folder / "scores.json"})
    return run


def test_a_changed_run_takes_over_what_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = RunFolder(tmp_path / "base", load_profile("tiny"))
    for stage in applicable(base.profile):
        output = base.path / stage.name
        output.touch()
        base.finish(stage.name, stage.fingerprint(base), 1.0, {"file": output})
    ran: list[str] = []

    def fake(run: RunFolder, names: Any, _: Console) -> None:
        for stage in applicable(run.profile):
            fingerprint = stage.fingerprint(run)
            if stage.name in names and not run.is_current(stage.name, fingerprint):
                ran.append(stage.name)
                (run.path / stage.name).touch()
                run.finish(stage.name, fingerprint, 0.0, {"file": run.path / stage.name})

    monkeypatch.setattr(runs, "run_stages", fake)
    new = runs.changed(base, tmp_path / "new", ["clusters.count=7"], QUIET)
    assert ran == ["clusters", "low_level", "semantic", "coarse", "images", "evaluate"]
    assert new.output("encoder", "file").samefile(base.path / "encoder")
    assert new.output("clusters", "file").parent == new.path
    assert runs.changed(base, tmp_path / "same", ["clusters.count=32"], QUIET) is base
    ran.clear()
    runs.changed(base, tmp_path / "new", ["clusters.count=7"], QUIET)
    assert ran == []
    alone = runs.alone(base_with_tree(base), tmp_path / "alone", 2, ["seed=9"], QUIET)
    assert "simulate" not in ran
    assert alone.profile.data.subjects == (2,)
    assert alone.profile.data.root == str((base.path / "tree").resolve())


def base_with_tree(base: RunFolder) -> RunFolder:
    outputs = {"root": base.path / "tree", "external": base.path / "external.hdf5"}
    for path in outputs.values():
        path.touch()
    base.finish("simulate", "f", 0.0, outputs)
    return base


def test_other_responses_take_the_place_of_the_test_rows(tmp_path: Path) -> None:
    base = RunFolder(tmp_path, load_profile("tiny"))
    learnt, seen = _subject("subj01", [4, 8], "train"), _subject("subj01", [5, 9], "test")
    own = runs._merged(learnt, seen, 0)
    images = RNG.integers(0, 255, (4, 2, 2, 3), dtype=np.uint8)
    write_dataset(tmp_path / "own.h5", images, [4, 5, 8, 9], [own], {})
    base.finish("prepare", "f", 0.0, {"dataset": tmp_path / "own.h5"})
    new = _subject("subj01", [0, 1, 7], "test")
    others = RNG.integers(0, 255, (3, 2, 2, 3), dtype=np.uint8)
    write_dataset(tmp_path / "new.h5", others, [0, 1, 7], [new], {})
    with BrainDataset.open(tmp_path / "new.h5") as pictures:
        runs._write(base, tmp_path / "out.h5", {"subj01": new}, pictures)
    with BrainDataset.open(tmp_path / "out.h5") as found:
        subject = found.subject("subj01")
        np.testing.assert_array_equal(subject.betas[subject.rows("test")], new.betas)
        np.testing.assert_array_equal(subject.betas[subject.rows("train")], learnt.betas)
        tested = subject.image_id[subject.rows("test")]
        assert tested.tolist() == [10, 11, 17]  # behind the base's own numbers
        np.testing.assert_array_equal(found.images(tested), others)
        np.testing.assert_array_equal(found.images([4, 8]), images[[0, 2]])


def test_every_choice_of_trials_is_averaged() -> None:
    subject = _subject("subj01", [2, 3], "test")
    betas = RNG.normal(size=(2, 3, 5)).astype(np.float32)
    found = dict(trials._choices({"subj01": (subject, betas)}, 2))
    assert list(found) == [(0, 1), (0, 2), (1, 2)]
    expected = (betas[:, 0] + betas[:, 2]) / 2
    np.testing.assert_allclose(found[0, 2]["subj01"].betas, expected, atol=1e-6)
    assert found[0, 2]["subj01"].repeats.tolist() == [2, 2]


def test_voxels_are_matched_by_place_and_counted_where_missing() -> None:
    own = _subject("subj01", [1], "test", voxels=4)
    new = _subject("subj01", [6, 7], "test", voxels=3)
    new = replace(new, vertex=np.array([2, 0, 9], np.int32))
    found, missing = scenes.aligned(own, new)
    assert missing == 2
    np.testing.assert_array_equal(found.betas[:, [0, 2]], new.betas[:, [1, 0]])
    assert not found.betas[:, [1, 3]].any()
    assert found.image_id.tolist() == [6, 7]


def test_classes_of_a_subjects_own_images_are_numbered_on(tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    path.write_text("Image class\n" + "a\n" * 100 + "b\n" * 120 + "c\n" * 64)
    classes = scenes.read_classes(path)
    assert classes["b"].tolist() == list(range(100, 220))
    assert classes["c"].tolist() == list(range(220, 220 + 8 * 64))


def test_maps_have_their_centres_where_tokens_look() -> None:
    looks = np.zeros((2, 9, 2))
    looks[:, 2, 0] = 1  # top right of three by three
    looks[:, :, 1] = 1
    maps = attention.maps_of([looks, looks])
    np.testing.assert_allclose((maps.x, maps.y), [[2 / 3, 0], [2 / 3, 0]], atol=1e-12)
    assert attention.correlation(np.array([0, 1, np.nan]), np.array([2, 5, 1])) == pytest.approx(1)


def test_loss_by_kind_is_the_mean_over_images_that_show_it() -> None:
    ids = {"subj01": np.array([1, 2, 3])}
    intact = ImageScores({"subj01": np.array([[0.9, 0.8, 0.7]])}, ids)
    without = ImageScores({"subj01": np.array([[0.5, 0.8, 0.6]])}, ids)
    kinds = {1: frozenset({"food"}), 2: frozenset({"food", "tools"}), 3: frozenset()}
    assert lesions.loss_by_kind(intact, without, kinds) == pytest.approx(
        {"food": 0.2, "tools": 0.0}
    )


def test_a_lesion_leaves_out_its_voxels_alone() -> None:
    class Decoder:
        mean = torch.zeros(1, 2)

        def __call__(self, x: torch.Tensor, _: str, kept: torch.Tensor) -> torch.Tensor:
            return (x * kept)[:, None, :2]

    from brainit.stages.scans import Scans

    truth = torch.tensor([[1.0, 0], [0, 1], [1, 1]])[:, None]
    truth[2] = torch.tensor([[-1.0, 0.5]])
    x = torch.cat([truth[:, 0], torch.randn(3, 2)], 1)
    scans = Scans(np.arange(3), x, np.zeros((3, 1, 1, 3), np.uint8), None)
    scorer: Any = lesions.TokenScorer(Decoder(), "s", scans, truth)  # type: ignore[arg-type]
    assert scorer.without(np.array([2, 3])).tolist() == scorer.without(np.array([], int)).tolist()
    assert scorer.without(np.array([0, 1])).max() == 0  # nothing is left to tell images by
    draws = lesions.as_many(100, np.arange(7))
    assert [len(np.unique(draw)) for draw in draws] == [7, 7, 7]


def test_areas_join_halves_and_leave_out_what_is_none() -> None:
    subject = replace(
        _subject("subj01", [1], "test", voxels=6),
        roi={"prf-visualrois": np.array([1, 2, 0, 3, 0, 0], np.int32)},
        roi_labels={"prf-visualrois": {0: "Unknown", 1: "V1v", 2: "V1d", 3: "V2v", 7: "hV4"}},
    )
    found = {name: voxels.tolist() for name, voxels in lesions.areas_of(subject).items()}
    assert found == {"V1": [0, 1], "V2": [3]}
