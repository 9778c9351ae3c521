"""Writing and reading pipelines: what comes back, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from safetensors.torch import load_file, save_file

from brainit_diffusion.pipeline import BrainITPipeline
from brainit_diffusion.schedule import few_step_scheduler
from brainit_diffusion.unclip import UnCLIP
from brainit_diffusion.unconditional import UnconditionalTokens

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(fresh: Any, tmp_path: Path) -> Path:
    fresh().save_pretrained(tmp_path)
    return tmp_path


def test_save_and_load(fresh: Any, tokens: torch.Tensor, tmp_path: Path) -> None:
    learned = UnconditionalTokens(5, 12)
    torch.nn.init.normal_(learned.tokens)
    parts = {"unconditional_tokens": learned, "original_size": (768, 512)}
    pipeline = fresh(scheduler=few_step_scheduler("v_prediction"), **parts)
    pipeline.save_pretrained(tmp_path)
    loaded: Any = BrainITPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert isinstance(loaded.scheduler, DPMSolverMultistepScheduler)
    assert loaded.scheduler.config.prediction_type == "v_prediction"
    options = {"num_inference_steps": 2, "unconditional": "learned", "output_type": "pt"}
    first, again = (
        pipe(tokens, generator=torch.Generator().manual_seed(1), **options).images
        for pipe in (pipeline, loaded)
    )
    images = UnCLIP.load(tmp_path).generate(
        tokens, steps=2, seeds=[1, 2, 3], unconditional="learned"
    )
    own = [torch.Generator().manual_seed(seed) for seed in (1, 2, 3)]
    assert torch.allclose(images, pipeline(tokens, generator=own, **options).images, atol=1e-5)
    # Weights elsewhere in memory may take kernels that sum in another order.
    assert torch.allclose(first, again, atol=1e-5)


def test_options_of_from_pretrained(fresh: Any, folder: Path) -> None:
    unet = fresh().unet
    (folder / "unet" / "config.json").unlink()  # not needed: the part is given
    loaded: Any = BrainITPipeline.from_pretrained(folder, unet=unet, torch_dtype=torch.bfloat16)
    assert loaded.unet is unet
    assert loaded.vae.dtype == torch.bfloat16
    assert loaded.unconditional_tokens is None


def test_a_repository_is_downloaded_and_checked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def download(name: str, **options: Any) -> str:
        asked.append((name, options))
        return str(folder)

    monkeypatch.setattr(BrainITPipeline, "download", download)
    BrainITPipeline.from_pretrained("lab/model", revision="1")
    assert asked == [("lab/model", {"revision": "1", "use_safetensors": True})]
    (folder / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match="is missing"):
        BrainITPipeline.from_pretrained("lab/model")


def test_shards_and_variants(fresh: Any, tmp_path: Path) -> None:
    fresh().save_pretrained(tmp_path, variant="fp16", max_shard_size="100KB")
    BrainITPipeline.from_pretrained(tmp_path, variant="fp16")
    shard = max((tmp_path / "unet").glob("*-of-*"))
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{shard.name} is missing.*complete"):
        BrainITPipeline.from_pretrained(tmp_path, variant="fp16")


@pytest.mark.parametrize("read", [BrainITPipeline.from_pretrained, UnCLIP.load])
def test_half_a_download(folder: Path, read: Any) -> None:
    read(folder)
    whole = (folder / WEIGHTS).read_bytes()
    for length in (0, 5, 1000, len(whole) - 1):
        (folder / WEIGHTS).write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"unet.*no whole safetensors file"):
            read(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match="is missing: is the download complete"):
        read(folder)


def test_weights_of_another_model(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    bias = weights.pop("conv_in.bias")
    save_file(weights, folder / WEIGHTS)
    with pytest.raises(ValueError, match=r"1 missing \(conv_in.bias\)$"):
        BrainITPipeline.from_pretrained(folder)
    save_file(weights | {"conv_in.bias": bias[:3], "other": torch.ones(1)}, folder / WEIGHTS)
    with pytest.raises(
        ValueError, match=r"1 unknown \(other\), 1 of another shape \(conv_in.bias: \[3\], expected"
    ):
        BrainITPipeline.from_pretrained(folder)


def test_another_pipeline(folder: Path) -> None:
    index = folder / "model_index.json"
    index.write_text(
        json.dumps(json.loads(index.read_text()) | {"_class_name": "StableDiffusionXLPipeline"})
    )
    with pytest.raises(ValueError, match="expected BrainITPipeline, got StableDiffusionXLPipeline"):
        BrainITPipeline.from_pretrained(folder)
    index.unlink()
    with pytest.raises(FileNotFoundError, match="expected a diffusers pipeline"):
        BrainITPipeline.from_pretrained(folder)


@pytest.mark.parametrize(
    ("unet", "message"),
    [
        # SDXL's own UNet has the text's 1,280 numbers beside the sizes.
        ({"projection_class_embeddings_input_dim": 6 * 8 + 16}, "an unCLIP UNet.*'text_time', 64"),
        ({"addition_embed_type": None}, "an unCLIP UNet.*None"),
        ({"in_channels": 8}, "latents of 4 channels as the VAE's, got 8"),
    ],
)
def test_parts_that_do_not_fit(fresh: Any, unet: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fresh(unet)
    with pytest.raises(ValueError, match="unconditional_tokens: expected width 12, got 16"):
        fresh(unconditional_tokens=UnconditionalTokens(5, 16))
