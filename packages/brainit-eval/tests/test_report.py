from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from brainit_eval.metrics.registry import Metric
from brainit_eval.report import page as module
from brainit_eval.report import scores as scores_module
from brainit_eval.report.gallery import Gallery, GalleryRow
from brainit_eval.report.page import Figure, Headline, Report, SettingsBlock, write_report
from brainit_eval.report.scores import ScoreRow, ScoreTable

EVIL = "<script>alert('x')</script> & <b>bold</b>"


class Page(HTMLParser):
    """What a browser would see: tags, attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def score(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def full_report() -> Report:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), "green").save(buffer, format="PNG")
    picture = np.random.default_rng(0).random((3, 8, 8))
    rows = [
        ScoreRow("Coarse", {"pixcorr": score(0.5), "two_way_late": score(0.6)}, EVIL),
        ScoreRow("Fused", {"pixcorr": score(0.4), "two_way_late": score(0.87)}),
        ScoreRow("Shuffled", {"pixcorr": score(0.9), "two_way_late": score(0.5)}, control=True),
    ]
    return Report(
        EVIL,
        EVIL,
        [Headline(EVIL, EVIL, EVIL)],
        [Gallery(["seen", EVIL], [GalleryRow(EVIL, {"seen": picture}, EVIL)], EVIL, EVIL)],
        [ScoreTable(rows, caption=EVIL)],
        [Figure(EVIL, EVIL, buffer.getvalue())],
        [SettingsBlock(EVIL, {EVIL: EVIL}, EVIL)],
        [EVIL],
        [EVIL],
        EVIL,
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    path = write_report(tmp_path_factory.mktemp("report") / "report.html", full_report())
    assert [other.name for other in path.parent.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


def test_no_script_and_nothing_from_elsewhere(source) -> None:
    page = Page(source)
    tags = {name for name, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form", "video"}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "srcset", "action"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert not re.search(r"url\(|@import|https?://", source)


def test_the_policy_forbids_all_but_pictures_and_styles(source) -> None:
    policies = [m for m in Page(source).named("meta") if m.get("http-equiv")]
    assert policies[0]["content"] == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    )


def test_every_text_is_escaped(source) -> None:
    page = Page(source)
    assert page.text.count(EVIL) == 23
    assert "<script" not in source
    assert page.named("b")  # our own markup stands
    assert "<b>bold" not in source


def test_pictures_are_png_data_in_order(source) -> None:
    images = [attributes["src"] for attributes in Page(source).named("img")]
    assert len(images) == 2
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(images[0].split(",")[1]))))
    expected = np.rint(np.random.default_rng(0).random((3, 8, 8)).transpose(1, 2, 0) * 255)
    np.testing.assert_array_equal(pixels, expected)


def test_the_best_of_the_methods_is_marked_and_no_control(source) -> None:
    best = re.findall(r'<td class="best"><div class="value">([^<]*)', source)
    assert best == ["0.500", "87.0"]
    assert "82.0 – 92.0" in source
    assert "PixCorr ↑" in source
    chance = source[source.index('<tr class="chance">') :]
    assert re.findall(r'class="value">([^<]*)', chance)[:2] == ["0", "50"]


def test_lower_is_better_marks_the_lowest(monkeypatch) -> None:
    monkeypatch.setattr(
        scores_module, "metric_of", lambda name: Metric(name, name, "", higher_is_better=False)
    )
    rows = [ScoreRow("a", {"x": score(0.2)}), ScoreRow("b", {"x": score(0.4)})]
    text = module.render_report(Report("t", tables=[ScoreTable(rows)]))
    assert re.findall(r'<td class="best"><div class="value">([^<]*)', text) == ["0.200"]
    assert "x ↓" in text


def test_empty_parts_and_missing_scores_leave_no_trace() -> None:
    page = Page(module.render_report(Report("Only a title")))
    assert not page.named("table")
    assert not page.named("figure")
    assert not page.named("h2")
    rows = [ScoreRow("a", {"ssim": score(0.2)}), ScoreRow("b", {"pixcorr": score(float("nan"))})]
    text = module.render_report(Report("t", tables=[ScoreTable(rows)]))
    assert "n/a" in text
    assert ">nan" not in text
    assert '"nan"' not in text


def test_a_matplotlib_figure_is_drawn() -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure(figsize=(1, 1))
    text = module.render_report(Report("t", figures=[Figure("f", "c", figure)]))
    assert 'src="data:image/png;base64,' in text


def test_bad_figures_unknown_metrics_and_heavy_pages_are_refused(tmp_path, monkeypatch) -> None:
    path = tmp_path / "report.html"
    with pytest.raises(ValueError, match="PNG"):
        write_report(path, Report("t", figures=[Figure("f", "c", b"GIF89a")]))
    with pytest.raises(ValueError, match="PNG bytes or a figure"):
        write_report(path, Report("t", figures=[Figure("f", "c", "report.png")]))
    with pytest.raises(ValueError, match="unknown metric 'fid'"):
        write_report(path, Report("t", tables=[ScoreTable([ScoreRow("a", {"fid": score(1)})])]))
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="15 MB"):
        write_report(path, Report("t"))
    assert not list(tmp_path.iterdir())
