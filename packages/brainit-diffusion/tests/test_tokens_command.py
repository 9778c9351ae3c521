"""`brainit-diffusion tokens`: folders and HDF5 files into a store, and its mistakes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from brainit_diffusion.cli import app
from brainit_diffusion.clip_tokens import ClipTokens
from brainit_diffusion.token_store import TokenStore

TINY = ("--device", "cpu", "--batch-size", 2, "--shard-size", 3)


def call(*args: Any) -> Any:
    return CliRunner().invoke(app, ["tokens", *map(str, args)])


def refused(*args: Any) -> str:
    result = call(*args)
    assert result.exit_code == 1, result.output
    assert result.stderr.count("error") == 1
    line = str(result.stderr.splitlines()[-1])  # below the bar, if it had begun
    assert line.startswith("error: ")
    return line


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("clip")
    tower = {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8}
    text = {"context_length": 4, "vocab_size": 9, "width": 8, "heads": 1, "layers": 1}
    config = {"embed_dim": 10, "vision_cfg": tower, "text_cfg": text}
    torch.manual_seed(0)
    save_file(open_clip.CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    return f"local-dir:{folder}"


PIXELS = np.random.default_rng(0).integers(0, 256, (5, 20, 20, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images, of which one is of another size and one is in a folder below."""
    images = tmp_path / "images"
    (images / "more").mkdir(parents=True)
    for name, pixels in zip("abcd", PIXELS, strict=False):
        Image.fromarray(pixels).save(images / f"{name}.png")
    Image.fromarray(PIXELS[4][:12]).save(images / "more" / "e.png")
    return images


def expected(model: str, rows: slice, **conventions: Any) -> torch.Tensor:
    images = torch.from_numpy(PIXELS[rows]).permute(0, 3, 1, 2) / 255
    return ClipTokens.load(model, **conventions).encode(images)


# Stored in float16; batches of another size change float32 by far less.
def close(stored: torch.Tensor, truth: torch.Tensor) -> bool:
    return torch.allclose(stored.float(), truth, rtol=2**-11, atol=1e-4)


def test_a_folder_of_images(model: str, folder: Path, tmp_path: Path) -> None:
    done = call(folder, tmp_path / "out", "--model", model, *TINY)
    assert done.exit_code == 0, done.output
    assert "5 images, 4 tokens of width 16" in done.output
    store = TokenStore(tmp_path / "out")
    assert store.ids == ["a", "b", "c", "d", "more/e"]
    assert close(store.read(list("abcd")), expected(model, slice(4)))
    before = {path: path.stat().st_mtime_ns for path in store.folder.iterdir()}
    assert call(folder, tmp_path / "out", "--model", model, *TINY).exit_code == 0
    assert before == {path: path.stat().st_mtime_ns for path in store.folder.iterdir()}


def test_an_hdf5_file_with_the_public_checkpoints_conventions(model: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "stimuli.hdf5", "w") as file:
        file["imgBrick"] = PIXELS
    choice = ("--pixels", "mindeye2", "--final-norm", "--model", model)
    done = call(tmp_path / "stimuli.hdf5", tmp_path / "out", *choice, *TINY)
    assert done.exit_code == 0, done.output
    store = TokenStore(tmp_path / "out")
    truth = expected(model, slice(5), pixels="mindeye2", final_norm=True)
    assert close(store.read(["4", "0"]), truth[[4, 0]])
    other = refused(tmp_path / "stimuli.hdf5", tmp_path / "out", "--model", model, *TINY)
    assert "other source" in other


def test_mistakes_have_one_line(model: str, folder: Path, tmp_path: Path) -> None:
    def message(images: Path, *more: Any) -> str:
        return refused(images, tmp_path / "out", "--model", model, *TINY, *more)

    assert "expected a folder of images" in message(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "no images" in message(tmp_path / "empty")
    (folder / "a.jpg").write_bytes((folder / "a.png").read_bytes())
    assert "'a' names two images" in message(folder)
    (folder / "a.jpg").unlink()
    (folder / "b.png").write_bytes(b"not an image")
    assert "b.png: not an image" in message(folder)
    picture = (folder / "a.png").read_bytes()
    (folder / "b.png").write_bytes(picture[: len(picture) // 2])
    assert "b.png: not an image" in message(folder)
    (tmp_path / "half.hdf5").write_bytes(b"half")
    assert "half.hdf5: not a whole HDF5 file" in message(tmp_path / "half.hdf5")
    assert "open_clip_config" in refused(folder, tmp_path / "o", "--model", "local-dir:/nowhere")


@pytest.mark.parametrize("share", [None, 0.0, 0.5, 0.99])
def test_half_a_model_is_refused(
    share: float | None, model: str, folder: Path, tmp_path: Path
) -> None:
    """OpenCLIP alone only warns where weights are missing, and leaves them random."""
    shutil.copytree(model.removeprefix("local-dir:"), tmp_path / "clip")
    weights = tmp_path / "clip" / "open_clip_model.safetensors"
    whole = weights.read_bytes()
    weights.unlink()
    if share is not None:
        weights.write_bytes(whole[: int(share * len(whole))])
    line = refused(folder, tmp_path / "out", "--model", f"local-dir:{tmp_path / 'clip'}", *TINY)
    assert "no whole OpenCLIP model" in line
    assert not (tmp_path / "out").exists()


def test_data_outside_the_file_are_not_read(model: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["imgBrick"] = PIXELS
    with h5py.File(tmp_path / "links.hdf5", "w") as file:
        file["linked"] = h5py.ExternalLink("other.hdf5", "imgBrick")
        layout = h5py.VirtualLayout(PIXELS.shape, np.uint8)
        layout[:] = h5py.VirtualSource(tmp_path / "other.hdf5", "imgBrick", PIXELS.shape)
        file.create_virtual_dataset("virtual", layout)
        raw = [(tmp_path / "other.hdf5", 0, PIXELS.size)]
        file.create_dataset("raw", PIXELS.shape, np.uint8, external=raw)
        file["flat"] = PIXELS[0]
    for name in ("linked", "virtual", "raw", "none"):
        message = refused(
            tmp_path / "links.hdf5", tmp_path / "o", "--model", model, "--dataset", name, *TINY
        )
        assert f"expected a dataset {name!r} that lies in the file" in message
    flat = ("--dataset", "flat")
    assert "expected uint8" in refused(
        tmp_path / "links.hdf5", tmp_path / "o", "--model", model, *flat, *TINY
    )
