"""Checkpoints in the layout of sgm: against diffusers' own converter, both ways, by file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from brainit_diffusion.checkpoint_files import read_checkpoint
from brainit_diffusion.cli import app
from brainit_diffusion.conversion import PARTS, entries, known_configs, to_diffusers, to_sgm

# Three levels, of which the first has no attention, as SDXL's: every rule of the table is used.
CONFIGS: dict[str, dict[str, Any]] = {
    "unet": {
        "sample_size": 8,
        "block_out_channels": (8, 16, 32),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 2,
        "transformer_layers_per_block": (1, 1, 2),
        "attention_head_dim": (1, 2, 4),
        "norm_num_groups": 4,
        "cross_attention_dim": 12,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 32,
    },
    "vae": {
        "block_out_channels": (4, 8, 8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "norm_num_groups": 2,
        "sample_size": 16,
    },
}


def models() -> dict[str, Any]:
    torch.manual_seed(0)
    return {
        "unet": UNet2DConditionModel(**CONFIGS["unet"]),
        "vae": AutoencoderKL(**CONFIGS["vae"]),
    }


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, Tensor]]:
    return {name: model.state_dict() for name, model in models().items()}


@pytest.fixture(scope="module")
def checkpoint(states: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    return to_sgm(states, CONFIGS)


def by_diffusers(checkpoint: dict[str, Tensor], configs: Any) -> dict[str, dict[str, Tensor]]:
    """The truth: what `from_single_file` makes of such names."""
    with torch.device("meta"):
        built = {name: PARTS[name].kind(**config).config for name, config in configs.items()}
    return {
        "unet": single_file_utils.convert_ldm_unet_checkpoint(dict(checkpoint), built["unet"]),
        "vae": single_file_utils.convert_ldm_vae_checkpoint(dict(checkpoint), built["vae"]),
    }


def assert_same(ours: Any, theirs: Any) -> None:
    for name in ("unet", "vae"):
        assert ours[name].keys() == theirs[name].keys()
        assert all(torch.equal(value, theirs[name][key]) for key, value in ours[name].items())


def test_names_and_values_are_those_of_diffusers_converter(
    states: dict[str, dict[str, Tensor]], checkpoint: dict[str, Tensor]
) -> None:
    # All values differ between tensors, so that a swap of two names cannot pass.
    assert len({float(v.flatten()[0]) for k, v in checkpoint.items() if v.ndim > 1}) > 200
    assert_same(by_diffusers(checkpoint, CONFIGS), states)
    assert checkpoint["first_stage_model.encoder.mid.attn_1.q.weight"].shape == (8, 8, 1, 1)


def test_both_ways_give_back_the_same(
    states: dict[str, dict[str, Tensor]], checkpoint: dict[str, Tensor]
) -> None:
    there = to_diffusers(checkpoint, CONFIGS)
    assert_same(there, states)
    again = to_sgm(there, CONFIGS)
    assert again.keys() == checkpoint.keys()
    assert all(torch.equal(again[key], checkpoint[key]) for key in checkpoint)


# Parameters of SDXL's UNet and VAE as published with diffusers' weights; unCLIP's UNet has fewer
# by the derivation in test_objective.
@pytest.mark.parametrize(
    ("model", "n_unet"),
    [("sdxl", 2_567_463_684), ("unclip", 2_567_463_684 - 63_897_600 - 2_293_760)],
)
def test_full_size_by_names_and_shapes(model: str, n_unet: int) -> None:
    configs = known_configs()[model]
    tables = {name: entries(PARTS[name], config) for name, config in configs.items()}
    assert sum(e.shape.numel() for e in tables["unet"]) == n_unet
    assert sum(e.shape.numel() for e in tables["vae"]) == 83_653_863
    assert (len(tables["unet"]), len(tables["vae"])) == (1680, 248)
    file = {
        e.sgm: torch.empty(e.sgm_shape, device="meta") for table in tables.values() for e in table
    }
    truth = by_diffusers(file, configs)
    for name, table in tables.items():
        assert {e.diffusers: e.shape for e in table} == {k: v.shape for k, v in truth[name].items()}


def test_some_names_of_the_published_files() -> None:
    """As listed in SDXL's file; the last is the one that the public unCLIP training cut."""
    table = {e.sgm: e for e in entries(PARTS["unet"], known_configs()["unclip"]["unet"])}
    start = "model.diffusion_model."
    for name, shape in {
        "input_blocks.3.0.op.weight": (320, 320, 3, 3),
        "input_blocks.4.1.transformer_blocks.1.attn2.to_k.weight": (640, 1664),
        "middle_block.1.transformer_blocks.9.ff.net.0.proj.weight": (10240, 1280),
        "output_blocks.2.2.conv.weight": (1280, 1280, 3, 3),
        "output_blocks.8.0.skip_connection.weight": (320, 640, 1, 1),
        "label_emb.0.0.weight": (1280, 1024),
    }.items():
        assert table[start + name].sgm_shape == shape


def test_encoders_of_conditions_are_passed_over_and_nothing_else(
    checkpoint: dict[str, Tensor],
) -> None:
    more = {"conditioner.embedders.0.x": torch.ones(1), "denoiser.sigmas": torch.ones(1000)}
    to_diffusers(checkpoint | more, CONFIGS)
    with pytest.raises(ValueError, match=r"model: 1 unknown \(model_ema.decay\)$"):
        to_diffusers(checkpoint | {"model_ema.decay": torch.ones(1)}, CONFIGS)
    less = dict(checkpoint)
    less.pop("first_stage_model.quant_conv.bias")
    with pytest.raises(ValueError, match=r": 1 missing \(first_stage_model.quant_conv.bias\)$"):
        to_diffusers(less, CONFIGS)


def test_a_checkpoint_of_another_model(checkpoint: dict[str, Tensor]) -> None:
    name = "model.diffusion_model.label_emb.0.0.weight"
    other = checkpoint | {name: torch.zeros(checkpoint[name].shape[0], 88)}
    with pytest.raises(
        ValueError,
        match=rf"another model: 1 of another shape \({name}: \[32, 88\], expected \[32, 32\]\)$",
    ):
        to_diffusers(other, CONFIGS)


def call(*args: Any) -> Any:
    return CliRunner().invoke(app, ["convert", *map(str, args)])


def refused(*args: Any) -> str:
    result = call(*args)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return str(result.stderr)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    result = tmp_path_factory.mktemp("diffusers")
    for name, model in models().items():
        model.save_pretrained(result / name)
    return result


@pytest.mark.parametrize("ending", ["ckpt", "safetensors"])
def test_files_there_and_back(
    ending: str, folder: Path, checkpoint: dict[str, Tensor], tmp_path: Path
) -> None:
    file = tmp_path / f"public.{ending}"
    if ending == "ckpt":  # as a training leaves it
        torch.save({"state_dict": checkpoint, "global_step": 3}, file)
    else:
        save_file(checkpoint, file)
    assert call(file, tmp_path / "out", "--like", folder).exit_code == 0
    truth = UNet2DConditionModel.from_pretrained(folder / "unet")
    unet = UNet2DConditionModel.from_pretrained(tmp_path / "out" / "unet")
    assert {**unet.config, "_name_or_path": 0} == {**truth.config, "_name_or_path": 0}
    assert_same(
        {"unet": unet.state_dict(), "vae": load_file(next((tmp_path / "out/vae").glob("*.saf*")))},
        to_diffusers(checkpoint, CONFIGS),
    )
    assert call(tmp_path / "out", tmp_path / "back.safetensors").exit_code == 0
    back = load_file(tmp_path / "back.safetensors")
    assert back.keys() == checkpoint.keys()
    assert all(torch.equal(back[key], checkpoint[key]) for key in checkpoint)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("ending", ["ckpt", "safetensors"])
@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_half_a_download(
    ending: str, share: float, checkpoint: dict[str, Tensor], folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / f"half.{ending}"
    save = save_file if ending == "safetensors" else torch.save
    save(checkpoint, file)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    message = refused(file, tmp_path / "out", "--like", folder)
    assert f"{file}: cut short or not a checkpoint" in message
    assert not (tmp_path / "out").exists()


class Trap:
    """Runs code when it is unpickled without care."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def test_no_code_of_a_file_is_run(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "callback": Trap(tmp_path / "ran")}, tmp_path / "bad.ckpt")
    assert "no code of a file is run" in refused(tmp_path / "bad.ckpt", tmp_path / "out")
    assert not (tmp_path / "ran").exists()


def test_other_mistakes_have_one_line(folder: Path, tmp_path: Path) -> None:
    assert "no such checkpoint" in refused(tmp_path / "none.ckpt", tmp_path / "out")
    assert "exists already" in refused(folder, folder)
    assert "ends in .safetensors" in refused(folder, tmp_path / "x.ckpt")
    assert "unet/config.json" in refused(tmp_path, tmp_path / "x.safetensors")
    torch.save([1, 2], tmp_path / "list.ckpt")
    assert "names and tensors" in refused(tmp_path / "list.ckpt", tmp_path / "out")
    save_file({"x": torch.ones(1)}, tmp_path / "x.safetensors")
    message = refused(tmp_path / "x.safetensors", tmp_path / "out", "--model", "sdxl")
    assert "x.safetensors: a checkpoint of another model: 1928 missing" in message
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps({"sample_size": 8}))
    assert "expected diffusion_pytorch_model" in refused(tmp_path, tmp_path / "y.safetensors")


def test_plain_state_dicts_are_read_as_they_are(tmp_path: Path) -> None:
    torch.save({"x": torch.arange(3)}, tmp_path / "x.pt")
    assert torch.equal(read_checkpoint(tmp_path / "x.pt")["x"], torch.arange(3))
