"""The page of a result: what it holds, and that a real browser sorts, filters and loads nothing."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from brainit_eval import Benchmark, Protocol, from_arrays, result_report, write_report
from brainit_eval.cli import app
from brainit_eval.leaderboard import load_published
from brainit_eval.metrics.registry import Metric
from brainit_eval.pictures.sets import Pictures
from brainit_eval.records.result import Result
from brainit_eval.report import Controls
from brainit_eval.report.page import Report
from brainit_eval.statistics.readings import Reading

N, SIDE = 12, 32
IDS = [9, 70, 700, *range(1001, 1001 + N - 3)]
SUBJECTS = ("subj01", "subj02")
EVIL = "<script>document.title = 'hacked'</script>"
QUOTE = '"><img src=https://example.org/x.png onerror="document.title=1">'
KINDS = [("food", EVIL, QUOTE)[k % 3] for k in range(N)]
CATEGORIES = {str(image): kind for image, kind in zip(IDS, KINDS, strict=True)}


def make_pictures(seed: int, truth: np.ndarray, share: float) -> np.ndarray:
    other = np.random.default_rng(seed).random(truth.shape)
    shares = share * np.random.default_rng(seed + 1).random((N, 1, 1, 1))
    return (shares * truth + (1 - shares) * other).astype(np.float32)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return np.random.default_rng(0).random((N, 3, SIDE, SIDE)).astype(np.float32)


@pytest.fixture(scope="module")
def seen(truth) -> Pictures:
    return from_arrays(truth, IDS, "seen")


@pytest.fixture(scope="module")
def mine(truth) -> dict[str, list[Pictures]]:
    return {
        name: [from_arrays(make_pictures(10 * k + 1, truth, 0.9 - 0.2 * k), IDS, name)]
        for k, name in enumerate(SUBJECTS)
    }


@pytest.fixture(scope="module")
def result(mine, seen) -> Result:
    protocol = Protocol.load("offline").only(("pixcorr", "ssim"))
    benchmark = Benchmark(protocol, seen, store=None, test_set="tests", n_bootstrap=50)
    return benchmark.score(mine, "My method (v2)")


@pytest.fixture(scope="module")
def controls() -> Controls:
    reading = Reading("grey", f"over grey {EVIL}", 0.25, 0.125, 0.5, True, f"above 0 {QUOTE}")
    red = replace(reading, name="blur", title="over-smoothness", green=False)
    return Controls(
        {"subj01": [reading, red], "subj02": [replace(red, value=-0.75, low=math.nan)]},
        {name: [str(image) for image in IDS] for name in SUBJECTS},
        "thumbnail",
    )


@pytest.fixture(scope="module")
def report(result, mine, seen, controls) -> Report:
    """As a user makes it, with one more column: lower is better, and one image has no score."""
    made = result_report(
        replace(result, warnings=(f"check the ids {EVIL}",)),
        mine,
        seen,
        categories=CATEGORIES,
        controls=controls,
    )
    distance = np.random.default_rng(5).random(2 * N)
    distance[3] = math.nan
    column = (Metric("far", "Far", "", higher_is_better=False), distance)
    return replace(made, images=replace(made.images, values=[*made.images.values, column]))


@pytest.fixture(scope="module")
def page(report, tmp_path_factory) -> Path:
    return write_report(tmp_path_factory.mktemp("report") / "report.html", report)


def keys() -> list[tuple[str, str]]:
    return [(name, str(image)) for name in SUBJECTS for image in IDS]


def test_the_gallery_shows_best_median_and_worst_by_the_printed_rule(result, report) -> None:
    (gallery,) = report.galleries
    values = [result.per_image.by_image(name) for name in SUBJECTS]
    mean = np.mean([columns["pixcorr"] for _, columns in values], axis=0)
    order = [values[0][0][k] for k in np.argsort(-mean)]
    shown = [row.note.split("\n")[0].removeprefix("image ") for row in gallery.rows]
    assert [row.label for row in gallery.rows][::3] == ["best", "median", "worst"]
    assert shown[0] == order[0]
    assert shown[3] == order[6]  # the upper of the two in the middle of 0 to 11
    assert shown[-1] == order[-1]
    assert gallery.columns == ["image seen", *SUBJECTS]
    assert "all 12 images in the order of PixCorr, mean over 2 subjects, the highest" in (
        gallery.rule
    )


def test_gallery_pictures_belong_to_their_ids(report, mine, seen) -> None:
    for row in report.galleries[0].rows:
        image = row.note.split("\n")[0].removeprefix("image ")
        place = seen.ids.index(image)
        for column, pictures in (("image seen", seen), *((s, mine[s][0]) for s in SUBJECTS)):
            expected = pictures.batch(range(place, place + 1))[0]
            np.testing.assert_array_equal(row.images[column], expected)


def test_subjects_with_other_images_stand_one_by_one(truth, mine) -> None:
    other = [image + 5000 for image in IDS]
    seen = {"subj01": from_arrays(truth, IDS), "subj02": from_arrays(truth, other)}
    images = {"subj01": mine["subj01"], "subj02": [from_arrays(truth * 0.95, other)]}
    protocol = Protocol.load("offline").only(("ssim",))
    result = Benchmark(protocol, seen, store=None, n_bootstrap=5).score(images, "Mine")
    report = result_report(result, images, seen)
    assert report.galleries[0].columns == ["image seen", "reconstruction"]
    assert report.galleries[0].rows[0].note.startswith("subj02, image ")
    assert report.images.image_id[N:] == [str(image) for image in other]


def test_scores_and_plots_are_those_of_the_result(result, report) -> None:
    (table,) = report.tables
    own = [row for row in table.rows if row.own]
    assert [row.label for row in own] == ["My method (v2)"]
    for name, score in result.metrics.items():
        assert own[0].scores[name] == {"value": score.value, "low": score.low, "high": score.high}
    by_subject, by_category = report.plots
    for panel in by_subject.panels:
        score = result.metrics[panel.metric.name]
        assert {dot.label: dot.value for dot in panel.dots} == dict(score.per_subject)
        assert panel.overall == score.value
        assert all(dot.low < dot.value < dot.high for dot in panel.dots)
    for panel in by_category.panels:
        for dot in panel.dots:
            rows = [k for k, (_, image) in enumerate(keys()) if CATEGORIES[image] == dot.label]
            values = next(v for metric, v in report.images.values if metric == panel.metric)
            assert dot.value == pytest.approx(values[rows].mean(), abs=1e-12)


def test_a_weak_category_is_marked_and_no_other(result, mine, seen) -> None:
    mean = np.mean([result.per_image.by_image(name)[1]["pixcorr"] for name in SUBJECTS], axis=0)
    ids = result.per_image.by_image("subj01")[0][np.argsort(mean)]
    kinds = {image: ("weak" if k < 4 else f"good {k % 2}") for k, image in enumerate(ids)}
    (*_, plot) = result_report(result, mine, seen, categories=kinds).plots
    assert plot.title == "By category"
    assert {dot.label: dot.marked for dot in plot.panels[0].dots} == {
        "good 0": False,
        "good 1": False,
        "weak": True,
    }


_PUBLISHED = """
paper = "A paper"
citation = "Someone, 2025"

[[row]]
method = "Theirs"
hours = 40
protocol = "offline"
test_set = "tests"
n_images = 12
subjects = ["subj01", "subj02"]
source = "table 1"
confidence = "paper"
note = "as printed"
[row.scores]
pixcorr = 0.999
ssim = { value = 0.125, source = "a blog", confidence = "note" }

[[row]]
method = "On other images"
protocol = "offline"
test_set = "others"
n_images = 12
subjects = ["subj01", "subj02"]
source = "table 2"
confidence = "paper"
[row.scores]
pixcorr = 0.5
"""


def test_published_rows_of_the_same_protocol_and_test_set_stand_beside(
    result, mine, seen, tmp_path, monkeypatch
) -> None:
    (tmp_path / "paper.toml").write_text(_PUBLISHED, encoding="utf-8")
    rows = load_published(tmp_path)
    monkeypatch.setattr("brainit_eval.report.of_result.load_published", lambda: rows)
    report = result_report(result, mine, seen)
    (table,) = report.tables
    assert [row.label for row in table.rows] == ["Theirs, 40 h", "My method (v2)"]
    assert table.rows[0].footnotes == ("A paper: Someone, 2025", "Theirs: as printed")
    assert table.left_out == (("On other images, A paper", "its test set is others (12 images)"),)
    text = write_report(tmp_path / "report.html", report).read_text(encoding="utf-8")
    assert '<td class="best"><div class="value">0.999</div><div class="interval"></div>' in text
    assert '<div class="value">0.125 †</div>' in text
    assert "On other images, A paper: its test set is others (12 images)" in text
    assert "<sup>1</sup><sup>,2</sup>" in text


def test_with_no_comparable_row_the_table_holds_the_result_alone(report) -> None:
    (table,) = report.tables
    assert [row.label for row in table.rows] == ["My method (v2)"]
    assert len(table.left_out) == len(load_published())


def test_the_page_names_protocol_hash_versions_and_what_is_left_out(page, result) -> None:
    text = page.read_text(encoding="utf-8")
    for word in (result.protocol.hash, result.test_set.ids_sha256, result.versions["torch"]):
        assert word in text
    assert "Not shown, since not comparable" in text


def test_names_of_users_are_text_and_no_markup(page) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count("<script") == 1
    assert "<img src=https" not in text
    assert text.count("hacked") == text.count("&lt;script&gt;document.title = &#39;hacked")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)', text)
    assert policy
    assert policy[1].startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; ")
    assert re.fullmatch(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", policy[1].split("; ")[-1])
    assert not re.search(r"url\((?!data:image/(png|jpeg);base64,)|@import", text)


def test_a_browser_opens_the_file_without_complaint(page, browser) -> None:
    document, console = browser.visit(page)
    assert console == []
    assert f"{2 * N} of {2 * N} rows" in document  # the script ran: its hash is the policy's
    assert "<title>My method (v2)</title>" in document


def test_the_browser_would_have_told(page, browser) -> None:
    """A picture from elsewhere and a foreign script are seen, and stopped by the page's policy."""
    bad = page.with_name("bad.html")
    text = page.read_text(encoding="utf-8")
    foreign = '<img src="https://example.org/x.png"><script>document.title = "hacked"</script>'
    bad.write_text(text.replace("</main>", f"{foreign}</main>"), encoding="utf-8")
    document, console = browser.visit(bad)
    assert any("example.org" in line for line in console)
    assert any("script-src" in line for line in console)
    assert "<title>My method (v2)</title>" in document


_STEPS = """
const table = document.getElementById("images");
const said = { loaded: performance.getEntriesByType("resource").map((entry) => entry.name) };
const press = (title) =>
  [...table.querySelectorAll("button")].find((b) => b.textContent.startsWith(title)).click();
const shown = () => [...table.tBodies[0].rows]
  .filter((row) => row.getClientRects().length)
  .map((row) => [...row.querySelectorAll(".word")].slice(0, 2).map((cell) => cell.textContent));
const means = () => [...table.tFoot.rows[0].cells].slice(-3).map((cell) => cell.textContent);
const put = (element, value, event) => {
  element.value = value;
  element.dispatchEvent(new Event(event));
};
const text = document.getElementById("filter");
const [subject, category] = document.querySelectorAll("select");
said.start = shown();
for (const title of ["PixCorr", "Far", "Image", "Category", "Subject"]) {
  press(title);
  said[title] = shown();
  said[title + " arrow"] = document.querySelector("[aria-sort]").ariaSort;
  press(title);
  said[title + " again"] = shown();
}
said.options = [...category.options].map((option) => option.value);
put(text, "70", "input");
said.text = shown();
said.count = document.getElementById("shown").textContent;
put(text, "", "input");
put(subject, "subj02", "change");
said.subject = shown();
said.subjectMeans = means();
put(category, said.options.find((value) => value.startsWith("<script")), "change");
said.both = shown();
put(text, "nowhere", "input");
said.none = shown();
said.noMeans = means();
said.pictures = [...document.images].every((image) => image.naturalWidth > 0);
document.body.style.width = "360px"; // a phone: the browser's own window is never that narrow
said.overflow = document.body.scrollWidth - 360;
return said;
"""


def test_a_browser_sorts_filters_and_loads_nothing(page, report, browser) -> None:
    said, console = browser.ask(page, _STEPS, "--window-size=390,800")
    assert console == []
    assert said["loaded"] == []
    assert said["pictures"]
    assert said["overflow"] == 0
    rows = keys()
    assert [tuple(key) for key in said["start"]] == rows

    def ordered(by) -> list[list[str]]:
        return [list(rows[k]) for k in sorted(range(len(rows)), key=by)]

    (_, pixcorr), _, (_, far) = report.images.values
    assert said["PixCorr"] == ordered(lambda k: -pixcorr[k])
    assert said["PixCorr arrow"] == "descending"
    assert said["PixCorr again"] == ordered(lambda k: pixcorr[k])
    assert said["Far"] == ordered(lambda k: (np.isnan(far[k]), far[k]))
    assert said["Far arrow"] == "ascending"
    assert said["Far again"] == ordered(lambda k: (np.isnan(far[k]), -far[k]))
    assert [image for _, image in said["Image"]] == [str(i) for i in IDS for _ in SUBJECTS]
    assert [image for _, image in said["Image again"]] == [
        str(i) for i in reversed(IDS) for _ in SUBJECTS
    ]
    kinds = [CATEGORIES[image] for _, image in said["Category"]]
    assert [kinds[0], kinds[8], kinds[16]] == [QUOTE, EVIL, "food"]
    assert sorted(kinds, key=[QUOTE, EVIL, "food"].index) == kinds
    assert [name for name, _ in said["Subject"]] == [s for s in SUBJECTS for _ in IDS]

    assert said["options"] == ["", *sorted({EVIL, QUOTE, "food"})]
    assert sorted(map(tuple, said["text"])) == sorted(k for k in rows if "70" in k[1])
    assert said["count"] == f"4 of {2 * N} rows"
    mine = [k for k, (name, _) in enumerate(rows) if name == "subj02"]
    assert sorted(map(tuple, said["subject"])) == sorted(rows[k] for k in mine)
    expected = [f"{np.mean(values[mine]):.3f}" for _, values in report.images.values]
    assert said["subjectMeans"] == expected
    evil = [rows[k] for k in mine if CATEGORIES[rows[k][1]] == EVIL]
    assert sorted(map(tuple, said["both"])) == sorted(evil)
    assert said["none"] == []
    assert said["noMeans"] == ["–"] * 3


def test_other_pictures_than_those_scored_are_refused(result, mine, seen, truth) -> None:
    other = {**mine, "subj02": [from_arrays(truth[::-1].copy(), IDS, "theirs")]}
    with pytest.raises(ValueError, match=r"theirs: image .* expected the pictures"):
        result_report(result, other, seen)
    fewer = {**mine, "subj02": [from_arrays(truth[1:], IDS[1:], "fewer")]}
    with pytest.raises(ValueError, match="fewer: expected the 12 true images; 1 missing: 9"):
        result_report(result, fewer, seen)
    renamed = [7, *IDS[1:]]
    images = {name: [from_arrays(truth, renamed, name)] for name in SUBJECTS}
    with pytest.raises(ValueError, match="subj01: expected the images of the result"):
        result_report(result, images, from_arrays(truth, renamed))
    with pytest.raises(ValueError, match="expected the result's subjects subj01, subj02, got x"):
        result_report(result, {"x": mine["subj01"]}, seen)
    with pytest.raises(ValueError, match="expected 1 samples of each"):
        result_report(result, {name: [*sets, *sets] for name, sets in mine.items()}, seen)


def test_controls_and_categories_of_other_images_are_refused(result, mine, seen, controls) -> None:
    one = replace(controls, readings={"subj01": controls.readings["subj01"]})
    with pytest.raises(ValueError, match="controls: expected subject subj02, got subj01"):
        result_report(result, mine, seen, controls=one)
    others = replace(controls, image_ids={name: ["1", "2"] for name in SUBJECTS})
    with pytest.raises(ValueError, match="controls: subj01: expected the images of the result"):
        result_report(result, mine, seen, controls=others)
    with pytest.raises(ValueError, match="categories: 11 images have none, the first is 70"):
        result_report(result, mine, seen, categories={"9": "food"})
    with pytest.raises(ValueError, match="ranked_by: expected one of pixcorr, ssim, got 'clip'"):
        result_report(result, mine, seen, ranked_by="clip")


def test_the_command_makes_the_page_with_what_controls_wrote(
    result, mine, seen, truth, tmp_path
) -> None:
    result.write(tmp_path / "result")
    np.savez(tmp_path / "seen.npz", images=truth, image_id=IDS)
    one = Benchmark(
        Protocol.load("offline").only(("pixcorr",)), seen, store=None, n_bootstrap=5
    ).score({"me": mine["subj01"]}, "Mine")
    one.write(tmp_path / "one")
    np.savez(tmp_path / "mine.npz", images=make_pictures(1, truth, 0.9), image_id=IDS)
    rows = "".join(f"{image},{'food' if image % 2 else 'people'}\n" for image in IDS)
    (tmp_path / "kinds.csv").write_text(f"image_id,category\n{rows}")

    def run(*arguments: object):
        pictures = ("--recons", tmp_path / "mine.npz", "--targets", tmp_path / "seen.npz")
        return CliRunner().invoke(app, [str(a) for a in (*arguments, *pictures)])

    made = run(
        "controls", "--out", tmp_path / "controls.json", "--bootstrap", 20, "--subject", "me"
    )
    assert made.exit_code == 0, made.output
    more = ("--controls", tmp_path / "controls.json", "--categories", tmp_path / "kinds.csv")
    out = ("--out", tmp_path / "report.html")
    made = run("report", tmp_path / "one", *more, *out)
    assert made.exit_code == 0, made.output
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    readings = json.loads((tmp_path / "controls.json").read_text())["subjects"]["me"]["readings"]
    assert text.count('class="mark green" title') == sum(r["green"] for r in readings)
    assert text.count('class="mark red" title') == sum(not r["green"] for r in readings)
    assert "<h2>By category</h2>" in text
    assert "<h2>By subject</h2>" not in text  # there is one

    for arguments, message in (
        ((tmp_path / "one", *out), "exists already"),
        ((tmp_path / "one", "--beside", tmp_path / "result", *out, "--overwrite"), "differ in"),
        ((tmp_path / "none", "--out", tmp_path / "x.html"), "expected a result folder"),
    ):
        failed = run("report", *arguments)
        assert failed.exit_code == 1
        assert failed.output.startswith("error: ")
        assert failed.output.count("\n") == 1
        assert message in failed.output
