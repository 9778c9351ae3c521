"""NSD-synthetic and NSD-imagery: groups of images, class-balanced identification, set rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from brainit_eval.cli import app
from brainit_eval.ood import imagery, synthetic
from brainit_eval.ood.groups import group_scores
from brainit_eval.protocol import Protocol
from brainit_eval.records.per_image import PerImage
from brainit_eval.records.result import Result, ids_hash
from brainit_eval.records.result_parts import MetricScore, ProtocolRecord, TestSet


def make(protocol: str, ids, samples: int = 1, offset: float = 0.0) -> Result:
    """A result of two subjects; ``ids`` gives each its images. Scores are drawn, plus an offset."""
    chosen = Protocol.load(protocol)
    keys = [(s, k, i) for s in ("subj01", "subj02") for k in range(samples) for i in ids[s]]
    draw = np.random.default_rng(0)
    order = draw.permutation(len(keys))  # rows of a subject stand together, images do not
    keys = sorted((keys[k] for k in order), key=lambda key: key[0])
    values = {name: draw.random(len(keys)) + offset for name in chosen.metrics}
    return Result(
        method="mine",
        protocol=ProtocolRecord(chosen.name, chosen.hash, chosen.settings),
        test_set=TestSet(chosen.test_set, chosen.n_images or 2, ids_hash(ids)),
        subjects=("subj01", "subj02"),
        samples=samples,
        metrics={
            name: MetricScore(0.5, 0.4, 0.6, True, {"subj01": 0.5, "subj02": 0.5})
            for name in chosen.metrics
        },
        per_image=PerImage(*(np.array(c) for c in zip(*keys, strict=True)), values),
        ranks={},
    )


def table(tmp_path):
    names = [name for name, count in synthetic.CLASSES.items() for _ in range(count)]
    path = tmp_path / "nsdsyntheticimageinformation.csv"
    rows = [f"{k},image {k},{name}" for k, name in enumerate(names, 1)]
    path.write_text("\n".join(["Image number,Image,Image class", *rows]) + "\n")
    return path


@pytest.fixture
def classes(tmp_path):
    return synthetic.read_classes(table(tmp_path))


COMMON = [str(k) for k in range(220)]
SYNTHETIC_IDS = {
    "subj01": COMMON + [str(k) for k in range(220, 284)],
    "subj02": COMMON + [str(k) for k in range(284, 348)],
}
SCENE_IDS = {key: [str(k) for k in range(52)] for key in ("subj01", "subj02")}


def test_group_scores_by_hand() -> None:
    ids = {key: ["a", "b", "c"] for key in ("subj01", "subj02")}
    result = make("nsd-imagery", ids, samples=3)
    scores = group_scores(result, {"two": ["a", "c"]})["two"]["ssim"]
    per_subject = []
    for subject in result.subjects:
        t = result.per_image
        by_image = [
            t.values["ssim"][(t.subject == subject) & (t.image_id == image)].mean()
            for image in ("a", "c")
        ]
        per_subject.append(by_image)
    assert scores.value == pytest.approx(np.mean(per_subject), abs=1e-15)
    # Two images drawn jointly: the ends are the means of one image alone.
    ends = np.mean(per_subject, 0)
    assert (scores.low, scores.high) == pytest.approx((ends.min(), ends.max()), abs=1e-15)
    assert scores.n_images == 2
    with pytest.raises(ValueError, match="no image of the group 'none'"):
        group_scores(result, {"none": ["z"]})
    assert np.isnan(group_scores(result, {"one": ["a"]})["one"]["ssim"].low)


def test_classes_number_each_subjects_own_images(classes) -> None:
    assert sum(synthetic.CLASSES.values()) == 284
    assert sum(synthetic.CLASSES[name] for name in synthetic.SCENES) == 52
    assert len(classes) == 220 + 8 * 64
    assert classes["0"] == "Natural scenes"
    assert {classes[str(k)] for k in range(220, 732)} == {"Chromatic noise"}


def test_another_table_is_refused(tmp_path) -> None:
    path = table(tmp_path)
    path.write_text(path.read_text().replace("Single words", "Noise", 1))
    with pytest.raises(ValueError, match="Image class"):
        synthetic.read_classes(path)


def test_stimuli_become_square_as_stated() -> None:
    stimulus = np.zeros(synthetic.SHAPE, np.uint8)
    stimulus[:, :, 0] = 255  # red
    stimulus[:, 323:1037, 1] = 64  # the middle 714 columns
    stimulus[0, 0] = (16, 0, 0)
    crop, pad = (synthetic.as_seen(stimulus, fit) for fit in ("crop", "pad"))
    assert (crop.shape, pad.shape) == ((714, 714, 3), (1360, 1360, 3))
    # The root of intensity: sqrt(64 / 255) * 255 = 127.7 and sqrt(16 / 255) * 255 = 63.9.
    assert (crop == (255, 127, 0)).all()
    assert (pad[:323] == (63, 0, 0)).all()
    assert (pad[1037:] == (63, 0, 0)).all()
    assert (pad[323:1037, 323:1037] == crop).all()
    assert (pad[324:1037, :323] == (255, 0, 0)).all()
    with pytest.raises(ValueError, match="fit"):
        synthetic.as_seen(stimulus, "squeeze")
    with pytest.raises(ValueError, match=r"\[714, 1360, 3\]"):
        synthetic.as_seen(stimulus[:700], "crop")


def test_low_level_scores_of_every_class(classes) -> None:
    result = make("nsd-synthetic", SYNTHETIC_IDS)
    scores = synthetic.score_classes(result, classes, n_bootstrap=50)
    assert set(scores) == {*synthetic.CLASSES, "scenes"}
    for name, count in synthetic.CLASSES.items():
        assert scores[name]["ssim"].score.n_images == count
        assert set(scores[name]) == {"pixcorr", "ssim", "two_way_alexnet2", "two_way_alexnet5"}
    t = result.per_image
    words = [t.values["ssim"][(t.subject == s) & np.isin(t.image_id, COMMON[68:108])].mean()
             for s in result.subjects]  # fmt: skip
    assert scores["Single words"]["ssim"].score.value == pytest.approx(np.mean(words), abs=1e-15)


def test_semantics_only_for_what_is_made_from_scenes(classes) -> None:
    full = Protocol.load("nsd-synthetic-scenes")
    everything = make("nsd-synthetic-scenes", SYNTHETIC_IDS)  # all metrics on all images
    scores = synthetic.score_classes(everything, classes, n_bootstrap=50)
    low = {"pixcorr", "ssim", "two_way_alexnet2", "two_way_alexnet5"}
    for name in ("scenes", *synthetic.SCENES):
        assert set(scores[name]) == set(full.metrics)
    for name in set(synthetic.CLASSES) - set(synthetic.SCENES):
        assert set(scores[name]) == low
    scenes = synthetic.score_classes(make("nsd-synthetic-scenes", SCENE_IDS), classes)
    assert set(scenes) == {*synthetic.SCENES, "scenes"}
    assert scenes["scenes"]["swav"].score.n_images == 52


def test_scores_stand_between_floor_and_ceiling(classes) -> None:
    result, floor, ceiling = (
        make("nsd-synthetic", SYNTHETIC_IDS, offset=offset) for offset in (1.0, 0.0, 4.0)
    )
    plain = synthetic.score_classes(result, classes, n_bootstrap=10)
    assert np.isnan(plain["Noise"]["ssim"].share)
    placed = synthetic.score_classes(result, classes, floor, ceiling, n_bootstrap=10)
    for scores in placed.values():
        assert all(score.share == pytest.approx(0.25) for score in scores.values())
    with pytest.raises(ValueError, match="ceiling: expected the images"):
        synthetic.score_classes(
            result, classes, ceiling=make("nsd-synthetic-scenes", SYNTHETIC_IDS)
        )


def test_other_images_are_no_nsd_synthetic(classes) -> None:
    wrong = {name: ids[:-1] for name, ids in SYNTHETIC_IDS.items()}
    with pytest.raises(ValueError, match="expected the 284 images of NSD-synthetic or its 52"):
        synthetic.score_classes(make("nsd-synthetic", wrong), classes)


def test_class_balanced_identification_equals_drawing() -> None:
    draw = np.random.default_rng(3)
    names = np.repeat(["a", "b", "c"], [5, 9, 4])
    similarity = draw.normal(size=(18, 18)) + 1.2 * np.eye(18)
    success = similarity < similarity.diagonal()  # [i, j]: image i loses for item j
    exact = synthetic.class_balanced_top1(success, list(names), per_class=3)
    n_draws = 4000
    shares = []
    for j in range(18):
        right = np.ones(n_draws, bool)
        for name in "abc":
            pool = np.flatnonzero((names == name) & (np.arange(18) != j))
            shuffled = pool[draw.random((n_draws, len(pool))).argsort(1)]
            candidates = shuffled[:, : 3 - (names[j] == name)]
            right &= success[candidates, j].all(1)
        shares.append(right.mean())
    # Five binomial standard deviations at most.
    assert np.abs(shares - exact).max() < 5 * np.sqrt(0.25 / n_draws)
    assert 0.05 < exact.mean() < 0.95


def test_class_balanced_identification_at_its_ends() -> None:
    names = [name for name, count in synthetic.CLASSES.items() for _ in range(count)]
    perfect = ~np.eye(284, dtype=bool)
    assert (synthetic.class_balanced_top1(perfect, names) == 1).all()
    assert (synthetic.class_balanced_top1(np.zeros((284, 284), bool), names) == 0).all()
    with pytest.raises(ValueError, match="class 'a': expected 8"):
        synthetic.class_balanced_top1(np.zeros((4, 4), bool), list("aaab"))


IMAGERY_IDS = {key: list(imagery.IDS) for key in ("subj01", "subj02")}


def test_sets_and_tasks_stand_apart() -> None:
    seen, imagined = (make("nsd-imagery", IMAGERY_IDS, 4, offset) for offset in (0.2, 0.0))
    scores = imagery.score_imagery(seen, imagined, n_bootstrap=50)
    assert set(scores.vision) == set(scores.imagery) == {"A", "B", "both"}
    assert [scores.vision[name]["swav"].n_images for name in ("A", "B", "both")] == [6, 6, 12]
    for name in ("A", "B", "both"):
        gain = scores.vision[name]["swav"].value - scores.imagery[name]["swav"].value
        assert gain == pytest.approx(0.2)
    both = (scores.vision["A"]["ssim"].value + scores.vision["B"]["ssim"].value) / 2
    assert scores.vision["both"]["ssim"].value == pytest.approx(both)


def test_what_twelve_images_allow_is_said_aloud() -> None:
    one, four = (make("nsd-imagery", IMAGERY_IDS, samples) for samples in (1, 4))
    notes = " ".join(imagery.score_imagery(four, one, n_bootstrap=10).notes)
    assert "steps of 1/11 (9.1 points)" in notes
    assert "a perfect score is 100 %" in notes
    assert "Vision: mean of 4 samples" in notes
    assert "Imagery: one sample a stimulus" in notes


def test_concepts_and_other_ids_are_refused() -> None:
    good = make("nsd-imagery", IMAGERY_IDS)
    concepts = {s: [*ids[:-1], "C1"] for s, ids in IMAGERY_IDS.items()}
    with pytest.raises(ValueError, match=r"imagery: subj01: set C \(C1\) are concepts"):
        imagery.score_imagery(good, make("nsd-imagery", concepts))
    numbers = {key: [str(k) for k in range(12)] for key in IMAGERY_IDS}
    with pytest.raises(ValueError, match="vision: subj01: expected the images A1, A2"):
        imagery.score_imagery(make("nsd-imagery", numbers), good)
    other = replace(good, protocol=ProtocolRecord("other", "0" * 64, {}))
    with pytest.raises(ValueError, match="one protocol"):
        imagery.score_imagery(good, other)


def test_training_images_of_set_b_are_found_in_both_readings() -> None:
    found = imagery.training_overlap({"subj01": [1, 28752, 53881], "subj02": range(100)})
    assert {(o.subject, o.nsd_id, o.counted_from) for o in found} == {
        ("subj01", 28752, 0),
        ("subj01", 53882, 1),
    }
    assert imagery.training_overlap({"subj01": []}) == []


def test_the_commands_print_what_the_rules_give(tmp_path) -> None:
    result = make("nsd-synthetic", SYNTHETIC_IDS).write(tmp_path / "synthetic")
    high = make("nsd-synthetic", SYNTHETIC_IDS, offset=2.0).write(tmp_path / "high")
    classes = ["--classes", str(table(tmp_path))]
    bounds = ["--floor", str(result), "--ceiling", str(high)]
    run = CliRunner().invoke(app, ["synthetic", str(result), *classes, *bounds])
    assert run.exit_code == 0
    assert len(run.output.splitlines()) == 9 * 4
    assert "images, 0.00 of the way" in run.output
    seen = make("nsd-imagery", IMAGERY_IDS).write(tmp_path / "seen")
    run = CliRunner().invoke(app, ["imagery", str(seen), str(seen)])
    assert "imagery, set B, swav: " in run.output
    assert "note: 12 images" in run.output
    run = CliRunner().invoke(app, ["imagery", str(seen), str(result)])
    assert (run.exit_code, run.output.count("\n")) == (1, 1)


def test_a_table_that_is_none_is_named(tmp_path) -> None:
    path = tmp_path / "classes.csv"
    for content in (b"\x89PNG\r\n", b"number,class\n1,a\n"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"classes\.csv: expected"):
            synthetic.read_classes(path)
