from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from brainit_eval.cli import app
from brainit_eval.human.key import Key


@pytest.fixture
def pictures(tmp_path):
    """Folders ``seen`` (one set) and ``a``, ``b`` (two subjects) of 6 pictures each."""
    draw = np.random.default_rng(0)
    for folder in ("seen", *(f"{m}/{s}" for m in "ab" for s in ("subj01", "subj02"))):
        (tmp_path / folder).mkdir(parents=True)
        for image_id in range(6):
            pixels = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{image_id:05}.png")
    return tmp_path


def run(*arguments: object):
    return CliRunner().invoke(app, ["study", *map(str, arguments)])


def make(folder, *extra: str):
    methods = ["--method", f"First={folder / 'a'}", "--method", f"Second={folder / 'b'}"]
    sizes = ["--trials", "12", "--catch", "4", "--pages", "2", "--mode", "methods", "--size", "64"]
    return run(
        "make", "--targets", folder / "seen", "--out", folder / "study", *methods, *sizes, *extra
    )


def test_make_answer_analyse(pictures) -> None:
    made = make(pictures)
    assert made.exit_code == 0, made.output
    assert made.output.count("16 trials") == 2
    key = Key.read(pictures / "study" / "key.json")
    assert key.settings["mode"] == "methods"
    for name, page in (("r1", 1), ("r2", 2)):
        answers = [{"place": t.place, "side": t.side, "ms": 500} for t in key.page(page).values()]
        if name == "r2":  # prefers the second method once
            flip = next(k for k, t in key.page(page).items() if t.subject)
            answers[flip]["side"] = "left" if answers[flip]["side"] == "right" else "right"
        record = {"schema": 1, "study": key.study, "page": page, "rater": name, "answers": answers}
        (pictures / f"{name}.json").write_text(json.dumps(record))
    files = (pictures / "r1.json", pictures / "r2.json")
    options = ("--key", pictures / "study" / "key.json", "--out", pictures / "analysis.json")
    done = run("analyse", *files, *options)
    assert done.exit_code == 0, done.output
    assert "2 of 2 raters count" in done.output
    assert "First over Second, all subjects: 95.8 %" in done.output  # 23 of 24
    written = json.loads((pictures / "analysis.json").read_text())
    assert written["preferences"][0]["share"] == pytest.approx(23 / 24)
    assert written["raters"][0] == {
        "name": "r1", "catch_right": 4, "catch_shown": 4, "kept": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--mode", "both"], "expected one of random, methods"),
        (["--method", "Third"], "expected NAME=PATH"),
        (["--method", "First=x"], "each name once"),
    ],
)
def test_mistakes_are_one_line(pictures, extra, message) -> None:
    made = make(pictures, *extra)
    assert made.exit_code == 1
    assert message in made.output
    assert made.output.count("\n") == 1
    assert not (pictures / "study").exists()


def test_true_images_per_subject_are_refused(pictures) -> None:
    method = ("--method", f"B={pictures / 'b'}")
    made = run("make", "--targets", pictures / "a", "--out", pictures / "study", *method)
    assert made.exit_code == 1
    assert "one set of true images" in made.output
