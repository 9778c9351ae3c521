"""The controls command: what is there is read, what fails is red, mistakes are one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate
from typer.testing import CliRunner

from brainit_eval.cli import app
from brainit_eval.controls.panel import ControlInputs, ControlPanel

N, SIDE = 24, 48


def pictures(n: int, seed: int) -> Tensor:
    """Patches of colour, and detail."""
    generator = torch.Generator().manual_seed(seed)
    patches = interpolate(torch.rand(n, 3, 6, 6, generator=generator), SIDE, mode="bicubic")
    detail = torch.rand(n, 3, SIDE, SIDE, generator=generator)
    return (0.8 * patches + 0.2 * detail).clamp(0, 1)


def as_pixels(images: Tensor) -> np.ndarray:
    return (images * 255).round().byte().permute(0, 2, 3, 1).numpy()


def save(path: Path, images: Tensor, start: int = 0, *, reverse: bool = False) -> Path:
    ids = np.arange(start, start + len(images))
    order = ids[::-1] - start if reverse else ids - start
    np.savez(path, images=as_pixels(images)[order], image_id=ids[order])
    return path


@pytest.fixture
def truth() -> Tensor:
    return pictures(N, 0)


@pytest.fixture
def good(truth) -> Tensor:
    """The truth with some of the detail of other pictures: sharp, and never quite right."""
    return 0.7 * truth + 0.3 * pictures(N, 1)


def run(out: Path, recons: Path, targets: Path, *more: object, ok: bool = True) -> dict:
    options = ["--recons", recons, "--targets", targets, "--out", out, "--bootstrap", "200"]
    result = CliRunner().invoke(app, ["controls", *map(str, [*options, *more])])
    assert (result.exit_code == 0) == ok, result.output
    return {"text": result.output} | (json.loads(out.read_text()) if ok else {})


def green(record: dict) -> dict[str, bool]:
    return {r["name"]: r["green"] for r in record["subjects"]["subject"]["readings"]}


def test_all_is_green_for_a_sound_method_and_ids_decide_the_pairs(truth, good, tmp_path) -> None:
    folder = tmp_path / "seen"
    folder.mkdir()
    for index, pixels in enumerate(as_pixels(truth)):
        Image.fromarray(pixels).save(folder / f"{index:05d}.png")
    kinds = tmp_path / "kinds.csv"
    rows = [f"{index},{'food' if index % 2 else 'people'}" for index in range(N)]
    kinds.write_text("\n".join(["image_id,category", *rows]))
    record = run(
        tmp_path / "controls.json",
        *(save(tmp_path / "mine.npz", good, reverse=True), folder),
        *("--coarse", save(tmp_path / "coarse.npz", interpolate(good, 32, mode="area"))),
        *("--recovered", save(tmp_path / "recovered.npz", 0.9 * truth + 0.05)),
        *("--train", save(tmp_path / "train.npz", pictures(60, 5), start=1000)),
        *("--categories", kinds),
    )
    verdicts = green(record)
    assert set(verdicts) == {
        "over_smoothness",
        "inversion_artefacts",
        "branch_agreement",
        "within_clusters",
        "weak_categories",
        "overlap",
        "far_from_training",
        *(f"{metric}_recovery" for metric in ("pixcorr", "ssim", "two_way")),
        *(f"{metric}_over_shuffled_brains" for metric in ("pixcorr", "ssim", "two_way")),
        *(f"{metric}_over_nearest_training_image" for metric in ("pixcorr", "ssim", "two_way")),
        *(f"{metric}_over_grey_image" for metric in ("pixcorr", "ssim")),
        *(f"{metric}_over_mean_training_image" for metric in ("pixcorr", "ssim")),
    }
    # Both identify perfectly with so few images, so true features are no better there.
    assert [name for name, value in verdicts.items() if not value] == ["two_way_recovery"]
    per_image = record["subjects"]["subject"]["per_image"]
    assert per_image["image_id"] == [str(index) for index in range(N)]
    assert min(per_image["pixcorr"]) > 0.6
    assert record["text"].count("green") == len(verdicts) - 1
    assert record["text"].count("red") == 1


def test_made_failures_are_red(truth, good, tmp_path) -> None:
    seen = save(tmp_path / "seen.npz", truth)
    soft = interpolate(avg_pool2d(good, 4), SIDE, mode="bilinear")
    verdicts = green(run(tmp_path / "soft.json", save(tmp_path / "soft.npz", soft), seen))
    assert not verdicts["over_smoothness"]
    assert verdicts["pixcorr_over_grey_image"]
    shuffled = good.roll(1, 0)
    arguments = (save(tmp_path / "mixed.npz", shuffled), seen)
    leaky = torch.cat([pictures(30, 5), truth[3:4]])
    more = ("--coarse", save(tmp_path / "coarse.npz", good))
    more += ("--train", save(tmp_path / "train.npz", leaky, start=1000))
    record = run(tmp_path / "mixed.json", *arguments, *more)
    verdicts = green(record)
    for name in ("branch_agreement", "pixcorr_over_shuffled_brains", "overlap"):
        assert not verdicts[name]
    overlap = next(r for r in record["subjects"]["subject"]["readings"] if r["name"] == "overlap")
    (leak,) = overlap["detail"]["leaks"]
    assert (leak["test_id"], leak["train_id"], leak["found_by"]) == ("3", "1030", "pixels")


def test_files_are_the_same_for_one_seed(truth, good, tmp_path) -> None:
    arguments = (save(tmp_path / "mine.npz", good), save(tmp_path / "seen.npz", truth))
    first, again, other = (tmp_path / f"{name}.json" for name in ("first", "again", "other"))
    run(first, *arguments)
    run(again, *arguments)
    run(other, *arguments, "--seed", 1)
    assert first.read_bytes() == again.read_bytes()
    assert first.read_bytes() != other.read_bytes()
    assert "exists" in run(first, *arguments, ok=False)["text"]


def test_a_panel_takes_what_can_be_sliced_and_sizes_may_differ(truth, good) -> None:
    small = as_pixels(interpolate(good, 36, mode="area")).transpose(0, 3, 1, 2)
    panel = ControlPanel(ControlInputs(small, truth, np.arange(N)), n_bootstrap=50)
    readings = {reading.name: reading for reading in panel.readings()}
    assert readings["over_smoothness"].per_image.shape == (N,)
    assert readings["pixcorr_over_mean_image_seen"].green
    with pytest.raises(ValueError, match="coarse: expected 24, one per image, got 23"):
        ControlPanel(ControlInputs(small, truth, np.arange(N), coarse=truth[:23]))


def test_mistakes_are_one_line(truth, good, tmp_path) -> None:
    mine, seen = save(tmp_path / "mine.npz", good), save(tmp_path / "seen.npz", truth)
    kinds = tmp_path / "kinds.csv"
    kinds.write_text("image_id,category\n0,food\n1,=cmd()\n")
    few = save(tmp_path / "few.npz", truth[:20])
    for arguments, message in (
        ((mine, few), "4 never seen: 20, 21, 22, 23"),
        ((mine, seen, "--coarse", few), "4 missing: 20, 21, 22, 23"),
        ((mine, seen, "--categories", kinds), "=cmd()"),
        ((mine, seen, "--features", "clip"), "expected thumbnail, or PROTOCOL:METRIC"),
        ((mine, seen, "--features", "offline:ssim"), "expected a metric of two_way_early"),
        ((mine, tmp_path / "nothing"), "no such file"),
    ):
        text = run(tmp_path / "out.json", *arguments, ok=False)["text"]
        assert message in text
        assert text.startswith("error: ")
        assert text.count("\n") == 1
    kinds.write_text("image_id,category\n0,food\n")
    text = run(tmp_path / "out.json", mine, seen, "--categories", kinds, ok=False)["text"]
    assert "23 images have none, the first is 1" in text
    assert not (tmp_path / "out.json").exists()
