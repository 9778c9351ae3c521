"""Recovery from true tokens: what it is made of, and the command's files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

from brainit_diffusion.cli import app
from brainit_diffusion.clip_tokens import ClipTokens
from brainit_diffusion.recovery import recover
from brainit_diffusion.unclip import UnCLIP

TOWER = {"image_size": 16, "patch_size": 8, "layers": 1, "head_width": 6}
TEXT = {"context_length": 4, "vocab_size": 9, "width": 8, "heads": 1, "layers": 1}
OPTIONS: dict[str, Any] = {"steps": 3, "seeds": [1, 2, 3], "guidance_scale": 2.0}


def clip_folder(folder: Path, width: int) -> str:
    config = {"embed_dim": 10, "vision_cfg": TOWER | {"width": width}, "text_cfg": TEXT}
    torch.manual_seed(0)
    folder.mkdir()
    save_file(open_clip.CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    return f"local-dir:{folder}"


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> str:
    return clip_folder(tmp_path_factory.mktemp("models") / "clip", 12)


@pytest.fixture(scope="module")
def clip(name: str) -> ClipTokens:
    return ClipTokens.load(name)


@pytest.fixture(scope="module")
def seen() -> Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def test_images_come_from_their_own_tokens(unclip: UnCLIP, clip: ClipTokens, seen: Tensor) -> None:
    found = recover(unclip, clip, seen, batch_size=2, **OPTIONS)
    assert found.fused is None
    for row in range(3):
        alone = unclip.generate(clip.encode(seen[row : row + 1]), **OPTIONS | {"seeds": [row + 1]})
        # Other batch sizes only reorder float32 sums.
        assert (found.from_tokens[row] - alone[0]).abs().max() < 1e-4
    swapped = recover(unclip, clip, seen.flip(0), **OPTIONS)
    assert (swapped.from_tokens - found.from_tokens).abs().max() > 1e-4


def test_coarse_images_count_from_the_start_step_on(
    unclip: UnCLIP, clip: ClipTokens, seen: Tensor
) -> None:
    ways = [recover(unclip, clip, seen, seen, start, **OPTIONS) for start in range(4)]
    assert all(torch.equal(way.from_tokens, ways[0].from_tokens) for way in ways)
    assert torch.equal(ways[0].fused, ways[0].from_tokens)
    copy = unclip.decode(unclip.encode(seen))
    assert torch.allclose(ways[3].fused, copy, atol=1e-5)
    gaps = [(way.fused - copy).abs().mean().item() for way in ways[1:]]
    assert gaps == sorted(gaps, reverse=True)
    paler = recover(unclip, clip, seen, seen, 3, contrast=0.5, **OPTIONS)
    inside = (copy > 0) & (copy < 1)
    assert torch.allclose(paler.fused[inside], (0.25 + copy / 2)[inside], atol=1e-5)


def test_wrong_input(unclip: UnCLIP, clip: ClipTokens, seen: Tensor, tmp_path: Path) -> None:
    wide = ClipTokens.load(clip_folder(tmp_path / "wide", 18))
    with pytest.raises(ValueError, match=r"tokens: expected \[B, T, 12\], got \(3, 4, 18\)"):
        recover(unclip, wide, seen, **OPTIONS)
    with pytest.raises(ValueError, match=r"values in \[0, 1\], got nan"):
        recover(unclip, clip, seen * float("nan"), **OPTIONS)


def call(*args: Any) -> Any:
    tiny = ("--steps", 3, "--start-step", 2, "--device", "cpu", "--batch-size", 2)
    return CliRunner().invoke(app, ["recover", *map(str, (*args, *tiny))])


def refused(*args: Any) -> str:
    result = call(*args)
    assert result.exit_code == 1, result.output
    line = str(result.stderr.splitlines()[-1])
    assert line.startswith("error: ")
    assert result.stderr.count("error") == 1
    return line


@pytest.fixture
def folders(unclip: UnCLIP, seen: Tensor, tmp_path: Path) -> tuple[Path, Path]:
    """Images, of which one lies deeper, and an unCLIP model."""
    (tmp_path / "seen" / "more").mkdir(parents=True)
    for image, file in zip(seen, ("a", "b", "more/c"), strict=True):
        pixels = (image.permute(1, 2, 0) * 255).round().byte().numpy()
        Image.fromarray(pixels).save(tmp_path / "seen" / f"{file}.png")
    unclip.pipeline.save_pretrained(tmp_path / "unclip")
    return tmp_path / "seen", tmp_path / "unclip"


def test_the_command_writes_what_the_call_returns(
    folders: tuple[Path, Path], name: str, unclip: UnCLIP, clip: ClipTokens, seen: Tensor
) -> None:
    images, models = folders
    output = images.parent / "out"
    done = call(images, models, output, "--model", name, "--coarse", images, "--seed", 7)
    assert done.exit_code == 0, done.output
    stored = (seen * 255).round() / 255
    expected = recover(unclip, clip, stored, stored, 2, steps=3, seeds=[7, 8, 9])
    for kind, truth in vars(expected).items():
        for image, file in zip(truth, ("a", "b", "more/c"), strict=True):
            pixels = np.asarray(Image.open(output / kind / f"{file}.png")) / 255
            # Eight bits, and batches of another size.
            assert np.abs(pixels - image.permute(1, 2, 0).numpy()).max() < 0.5 / 255 + 1e-3
    assert "exists already" in refused(images, models, output, "--model", name)


def test_mistakes_have_one_line_and_leave_nothing(
    folders: tuple[Path, Path], name: str, tmp_path: Path
) -> None:
    images, models = folders
    output = tmp_path / "out"
    wide = clip_folder(tmp_path / "wide", 18)
    assert "expected [B, T, 12]" in refused(images, models, output, "--model", wide)
    assert "same names" in refused(
        images, models, output, "--model", name, "--coarse", images / "more"
    )
    assert "vae" in refused(images, tmp_path / "none", output, "--model", name)
    weights = models / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "no whole safetensors file" in refused(images, models, output, "--model", name)
    assert not output.exists()
    assert not list(tmp_path.glob(".out*"))


def test_a_run_that_breaks_off_leaves_nothing(
    folders: tuple[Path, Path], name: str, tmp_path: Path
) -> None:
    images, models = folders
    (images / "more" / "c.png").write_bytes(b"not an image")  # of the second batch
    line = refused(images, models, tmp_path / "out", "--model", name)
    assert "c.png: not an image" in line
    assert not list(tmp_path.glob("*out*"))
