"""A file of features into a folder, and the command line around it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from brainit_dip import (
    InversionConfig,
    Inverter,
    InverterConfig,
    SkipConfig,
    VGGFeatures,
    VGGTokens,
    invert,
    invert_file,
    load_vgg,
)
from brainit_dip import long_list as long_list_module
from brainit_dip.cli import app

SMALL = InversionConfig(
    image_size=16, network=SkipConfig(4, (4, 4), (4, 4), (2, 2)), steps=2, batch_size=2
)
runner = CliRunner()


@pytest.fixture
def features(tmp_path: Path, vgg: VGGFeatures, images: Tensor) -> Path:
    tokens = VGGTokens(vgg.widths, vgg.image_size).pack(vgg(images))
    path = tmp_path / "features.safetensors"
    save_file({"tokens": tokens, "ids": torch.tensor([41, 7, 1000])}, path)
    return path


def test_files_hold_what_invert_finds(features: Path, tmp_path: Path, vgg: VGGFeatures) -> None:
    paths = invert_file(features, tmp_path / "out", vgg, SMALL, seed=5)
    assert [p.name for p in paths] == [
        "000041.safetensors",
        "000007.safetensors",
        "001000.safetensors",
    ]
    found = invert(load_file(features)["tokens"], vgg, SMALL, [46, 12, 1005])
    for i, path in enumerate(paths):
        stored = load_file(path)
        assert torch.equal(stored["image"], found.images[i])
        assert torch.equal(stored["loss"], found.loss[:, i])
        with Image.open(path.with_suffix(".png")) as picture:
            assert picture.size == (16, 16)


def test_a_stopped_list_goes_on(
    features: Path, tmp_path: Path, vgg: VGGFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = replace(SMALL, batch_size=1)
    whole = invert_file(features, tmp_path / "whole", vgg, one)
    out, calls = tmp_path / "out", []

    def stops(done: int, n: int) -> None:
        calls.append((done, n))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        invert_file(features, out, vgg, one, report=stops)
    assert calls == [(1, 3), (2, 3)]
    kept = {p: p.stat().st_mtime_ns for p in out.glob("*.safetensors")}
    resumed = invert_file(features, out, vgg, one)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert [p.read_bytes() for p in resumed] == [p.read_bytes() for p in whole]
    assert not list(out.glob(".*"))
    with pytest.raises(ValueError, match="holds another inversion"):
        invert_file(features, out, vgg, one, seed=1)
    # A write that breaks leaves no file that looks whole.
    monkeypatch.setattr(
        long_list_module, "save_file", lambda *a: (_ for _ in ()).throw(OSError("full"))
    )
    with pytest.raises(OSError, match="full"):
        invert_file(features, tmp_path / "broken", vgg, one)
    assert not list((tmp_path / "broken").rglob("*safetensors*"))


def test_maps_and_an_inverter(
    features: Path, tmp_path: Path, vgg: VGGFeatures, images: Tensor
) -> None:
    maps = {f"map_{i}": x.contiguous() for i, x in enumerate(vgg(images), 1)}
    save_file(maps, tmp_path / "maps.safetensors")
    inverter = Inverter(InverterConfig.of(vgg, 4, 1)).requires_grad_(False)
    config = replace(SMALL, image_size=32, steps=1)
    paths = invert_file(tmp_path / "maps.safetensors", tmp_path / "out", vgg, config, 0, inverter)
    assert [p.name for p in paths] == [f"00000{i}.safetensors" for i in range(3)]
    start = inverter(vgg(images)).clamp(0.01, 0.99)
    for path, image in zip(paths, start, strict=True):
        torch.testing.assert_close(load_file(path)["image"], image, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"tokens": torch.zeros(2, 5, 8)}, "expected `tokens`"),
        ({"map_1": torch.zeros(2, 8, 32, 32)}, "expected `tokens`"),
        ({"other": torch.zeros(2)}, "expected `tokens`"),
    ],
)
def test_wrong_files_are_named(
    tensors: dict[str, Tensor], message: str, tmp_path: Path, vgg: VGGFeatures
) -> None:
    path = tmp_path / "wrong.safetensors"
    save_file(tensors, path)
    with pytest.raises(ValueError, match=message):
        invert_file(path, tmp_path / "out", vgg, SMALL)
    path.write_text("no tensors")
    with pytest.raises(ValueError, match="not a safetensors file"):
        invert_file(path, tmp_path / "out", vgg, SMALL)
    with pytest.raises(FileNotFoundError, match="no such file"):
        invert_file(tmp_path / "none", tmp_path / "out", vgg, SMALL)


@pytest.mark.parametrize("ids", [[1, 2, 1], [0, 1], [0.0, 1.0, 2.0], [-1, 0, 1], [[0, 1, 2]]])
def test_ids_are_different_whole_numbers(
    ids: list[float], features: Path, tmp_path: Path, vgg: VGGFeatures
) -> None:
    tensors = load_file(features)
    save_file({**tensors, "ids": torch.tensor(ids)}, tmp_path / "wrong.safetensors")
    with pytest.raises(ValueError, match="ids: expected 3 different whole numbers"):
        invert_file(tmp_path / "wrong.safetensors", tmp_path / "out", vgg, SMALL)


def test_commands(tmp_path: Path, trainable_vgg: VGGFeatures, images: Tensor) -> None:
    folder = tmp_path / "vgg"
    folder.mkdir()
    channels = [[8, 8], [12, 12], [16, 16, 16], [16]]
    config = {"channels": channels, "image_size": 32, "mean": [0.5] * 3, "std": [0.25] * 3}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(trainable_vgg.state_dict(), folder / "model.safetensors")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i, colour in enumerate([(200, 30, 30), (20, 20, 220)]):
        Image.new("RGB", (50, 40), colour).save(pictures / f"{i}.png")
    tokens = VGGTokens([8, 12, 16, 16], 32).pack(load_vgg(folder)(images))
    save_file({"tokens": tokens}, tmp_path / "features.safetensors")

    def run(*words: object) -> str:
        done = runner.invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        return done.output

    trained = run(
        "train-inverter", pictures, tmp_path / "inverter", "--vgg", folder, "--steps", 2,
        "--batch-size", 2, "--width", 4, "--correlations", 0.3, 0.9,
    )  # fmt: skip
    assert "an inverter for" in trained
    common = ("--vgg", folder, "--steps", 2)
    features = tmp_path / "features.safetensors"
    out = run("invert", features, tmp_path / "cold", *common, "--preset", "tiny")
    assert "3 images" in out
    out = run("invert", features, tmp_path / "warm", *common, "--inverter", tmp_path / "inverter")
    assert "3 images" in out
    assert "2 images" in run("recover", pictures, tmp_path / "back", *common, "--preset", "tiny")
    assert len(list((tmp_path / "back").glob("*.png"))) == 2
    for wrong in (("--vgg", "none"), (*common, "--preset", "warm")):
        words = ("invert", features, tmp_path / "x", *wrong)
        failed = runner.invoke(app, [str(word) for word in words])
        assert failed.exit_code == 1
        assert failed.output.startswith("error: ")
        assert failed.output.count("\n") == 1
