from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from brainit_eval.human.key import QUESTION, Key
from brainit_eval.human.page import StudyImages, write_study
from brainit_eval.human.trials import CATCH, plan_trials
from brainit_eval.pictures.sets import from_arrays

IDS = ["701", "702", "703", "704", "705", "706"]
SUBJECTS = ["subjalpha", "subjbeta"]


def shades(seed: int, size: int = 16):
    """Pictures of one colour each, which survives the encoding and tells them apart."""
    colours = np.random.default_rng(seed).integers(0, 256, (len(IDS), 1, 1, 3), dtype=np.uint8)
    return from_arrays(np.broadcast_to(colours, (len(IDS), size, size, 3)).copy(), IDS)


def study_images(*names: str) -> StudyImages:
    methods = {
        name: {s: shades(10 * m + k, 16 + 8 * m) for k, s in enumerate(SUBJECTS, 1)}
        for m, name in enumerate(names)
    }
    return StudyImages(shades(99), methods, size=32)


def write(folder, mode: str = "methods", names=("secretmethod", "othermethod"), seed: int = 3):
    images = study_images(*names)
    trials = plan_trials(mode, list(names), SUBJECTS, IDS, pages=2, trials=10, catch=3, seed=seed)
    return write_study(folder, trials, images, {"seed": seed}), trials, images


class Page(HTMLParser):
    """Tags, attributes and scripts of a page; fails on tags that do not close."""

    VOID = ("meta", "img", "input", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)

    @property
    def study(self) -> dict:
        return json.loads(self.scripts[0])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    pages, trials, images = write(folder)
    return folder, pages, trials, images


def test_pages_parse_and_load_nothing(made) -> None:
    for path in made[1]:
        text = path.read_text(encoding="utf-8")
        page = Page(text)
        assert QUESTION in text
        policy = next(a["content"] for _, a in page.tags if "http-equiv" in a)
        assert policy.startswith("default-src 'none'")
        assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "form", "base"}
        assert not [a for _, a in page.tags if a.get("src") or a.get("href")]
        assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttp|WebSocket|Beacon", text)


def test_pages_show_the_trials_in_order_on_their_sides(made) -> None:
    folder, pages, trials, images = made
    for number, path in enumerate(pages, 1):
        study = Page(path.read_text(encoding="utf-8")).study
        mine = [trial for trial in trials if trial.page == number]
        assert study["page"] == number
        for trial, shown in zip(mine, study["trials"], strict=True):
            other = "right" if trial.side == "left" else "left"
            assert shown[trial.side] == images.encoded(trial.first, trial.subject)
            assert shown[other] == images.encoded(trial.second, trial.subject)
    key = Key.read(folder / "key.json")
    assert list(key.trials) == trials
    assert key.study == study["study"]


def test_pictures_have_one_size_and_no_metadata(made) -> None:
    page = Page(made[1][0].read_text(encoding="utf-8"))
    for shown in page.study["trials"]:
        for uri in shown.values():
            image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
            assert (image.size, image.format) == ((32, 32), "JPEG")
            assert not image.getexif()
            assert "comment" not in image.info


def test_the_right_picture_is_shown() -> None:
    # One colour each: JPEG at quality 95 keeps it to 2 of 255.
    images = study_images("m")
    for place, image_id in enumerate(IDS):
        trial = next(
            t
            for t in plan_trials("random", ["m"], SUBJECTS, IDS, trials=60, catch=0)
            if t.image_id == image_id and t.subject == "subjbeta"
        )
        uri = images.encoded(trial.first, trial.subject)
        got = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
        want = images.methods["m"]["subjbeta"].batch(range(place, place + 1))[0, :, 0, 0] * 255
        assert np.abs(got.reshape(-1, 3) - want.numpy()).max() <= 2


def test_no_answer_leaks(made, tmp_path) -> None:
    for path in made[1]:
        page = Page(path.read_text(encoding="utf-8"))
        for word in ("secretmethod", "othermethod", *SUBJECTS, CATCH, "over", *IDS):
            values = {k: v for k, v in page.study.items() if k != "trials"}
            assert word not in json.dumps(values)
        assert {name for shown in page.study["trials"] for name in shown} == {
            "top", "left", "right",
        }  # fmt: skip
    # Other names for the same pictures give the same pages to the byte.
    renamed, _, _ = write(tmp_path, names=("x", "y"))
    for one, other in zip(made[1], renamed, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_the_key_is_not_beside_the_pages(made) -> None:
    folder, pages, _, _ = made
    assert {path.parent for path in pages} == {folder / "pages"}
    assert sorted(path.name for path in (folder / "pages").iterdir()) == [
        "page-1.html",
        "page-2.html",
    ]


def test_same_seed_same_bytes_other_seed_other_study(made, tmp_path) -> None:
    again, _, _ = write(tmp_path / "again")
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in made[1]]
    write(tmp_path / "other", seed=4)
    assert Key.read(tmp_path / "other" / "key.json").study != Key.read(made[0] / "key.json").study


def test_a_key_is_never_replaced(made) -> None:
    with pytest.raises(FileExistsError, match=r"key\.json"):
        write(made[0])


def test_sets_that_do_not_match_are_refused() -> None:
    truth = shades(0)
    fewer = from_arrays(np.zeros((2, 16, 16, 3), np.uint8), IDS[:2], "mine")
    with pytest.raises(ValueError, match=r"mine.*4 missing: 703"):
        StudyImages(truth, {"a": {"s": fewer}})
    with pytest.raises(ValueError, match="same subjects"):
        StudyImages(truth, {"a": {"s": truth}, "b": {"t": truth}})
