"""Names of UNet and VAE in the layout of Stability's `sgm` and in diffusers', both ways.

The public unCLIP checkpoint of MindEye2 (arXiv 2403.11207) and SDXL's (arXiv 2307.01952) are one
file in the `sgm` layout. `PARTS` is the table: a part's place in that file, and its modules in
both layouts. What lies below such a module has the same names in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from brainit_diffusion.integrity import differences
from brainit_diffusion.unet import sdxl_unet_config, sdxl_vae_config, unclip_unet_config

Pair = tuple[str, str]
"""A module's name in `sgm` and in diffusers."""

UNET_RESNET: tuple[Pair, ...] = (
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
)
VAE_RESNET: tuple[Pair, ...] = (
    *((name, name) for name in ("norm1", "conv1", "norm2", "conv2")),
    ("nin_shortcut", "conv_shortcut"),
)
VAE_ATTENTION: tuple[Pair, ...] = (
    ("norm", "group_norm"),
    ("q", "to_q"),
    ("k", "to_k"),
    ("v", "to_v"),
    ("proj_out", "to_out.0"),
)
CONVOLVED = ("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight")
"""Matrices of the VAE's attention [C, C] that `sgm` has as 1 x 1 convolutions [C, C, 1, 1]."""

SKIPPED = ("conditioner.", "denoiser.")
"""What else such a file holds, by prefix: the encoders of its conditions, the table of sigmas."""


def unet_modules(config: Mapping[str, Any]) -> Iterator[Pair]:
    """Modules of an SDXL-type UNet; `config` is that of diffusers' `UNet2DConditionModel`."""
    yield from (
        ("time_embed.0", "time_embedding.linear_1"),
        ("time_embed.2", "time_embedding.linear_2"),
        ("label_emb.0.0", "add_embedding.linear_1"),
        ("label_emb.0.2", "add_embedding.linear_2"),
        ("input_blocks.0.0", "conv_in"),
        ("out.0", "conv_norm_out"),
        ("out.2", "conv_out"),
    )
    # There, a block is a resnet with the attention that follows it, or the convolution between two
    # levels; they are numbered through, after conv_in. Upwards, the latter ends a level's last one.
    layers = int(config["layers_per_block"])
    for level, kind in enumerate(config["down_block_types"]):
        first = 1 + level * (layers + 1)
        for layer in range(layers):
            there, here = f"input_blocks.{first + layer}", f"down_blocks.{level}"
            yield from _below(f"{there}.0", f"{here}.resnets.{layer}", UNET_RESNET)
            if "CrossAttn" in kind:
                yield f"{there}.1", f"{here}.attentions.{layer}"
        yield f"input_blocks.{first + layers}.0.op", f"down_blocks.{level}.downsamplers.0.conv"
    yield from _below("middle_block.0", "mid_block.resnets.0", UNET_RESNET)
    yield "middle_block.1", "mid_block.attentions.0"
    yield from _below("middle_block.2", "mid_block.resnets.1", UNET_RESNET)
    for level, kind in enumerate(config["up_block_types"]):
        attends = "CrossAttn" in kind
        for layer in range(layers + 1):
            there, here = f"output_blocks.{level * (layers + 1) + layer}", f"up_blocks.{level}"
            yield from _below(f"{there}.0", f"{here}.resnets.{layer}", UNET_RESNET)
            if attends:
                yield f"{there}.1", f"{here}.attentions.{layer}"
        yield f"{there}.{1 + attends}.conv", f"{here}.upsamplers.0.conv"


def vae_modules(config: Mapping[str, Any]) -> Iterator[Pair]:
    """Modules of SDXL's kind of VAE; `config` is that of diffusers' `AutoencoderKL`."""
    levels, layers = len(config["block_out_channels"]), int(config["layers_per_block"])
    yield from ((name, name) for name in ("quant_conv", "post_quant_conv"))
    for side in ("encoder", "decoder"):
        yield from ((f"{side}.{name}", f"{side}.{name}") for name in ("conv_in", "conv_out"))
        yield f"{side}.norm_out", f"{side}.conv_norm_out"
        for number in range(2):
            there, here = f"{side}.mid.block_{number + 1}", f"{side}.mid_block.resnets.{number}"
            yield from _below(there, here, VAE_RESNET)
        yield from _below(f"{side}.mid.attn_1", f"{side}.mid_block.attentions.0", VAE_ATTENTION)
    for level in range(levels):
        for layer in range(layers):
            there, here = f"encoder.down.{level}.block.{layer}", f"encoder.down_blocks.{level}"
            yield from _below(there, f"{here}.resnets.{layer}", VAE_RESNET)
        yield (
            f"encoder.down.{level}.downsample.conv",
            f"encoder.down_blocks.{level}.downsamplers.0.conv",
        )
        # The decoder counts its levels from the image there, from the latent here.
        there, here = f"decoder.up.{level}", f"decoder.up_blocks.{levels - 1 - level}"
        for layer in range(layers + 1):
            yield from _below(f"{there}.block.{layer}", f"{here}.resnets.{layer}", VAE_RESNET)
        yield f"{there}.upsample.conv", f"{here}.upsamplers.0.conv"


@dataclass(frozen=True)
class Part:
    """One network of a checkpoint.

    Attributes:
        prefix: Of its names in the `sgm` file.
        kind: Its class in diffusers.
        modules: Its modules in both layouts, given diffusers' config.
        convolved: Ends of diffusers' names whose matrices are 1 x 1 convolutions in `sgm`.
    """

    prefix: str
    kind: Any
    modules: Callable[[Mapping[str, Any]], Iterator[Pair]]
    convolved: tuple[str, ...] = ()


PARTS = {
    "unet": Part("model.diffusion_model.", UNet2DConditionModel, unet_modules),
    "vae": Part("first_stage_model.", AutoencoderKL, vae_modules, CONVOLVED),
}
"""The networks by their folders in diffusers."""

Configs = Mapping[str, Mapping[str, Any]]
"""Arguments of diffusers' classes, by the names in `PARTS`."""


def known_configs() -> dict[str, dict[str, dict[str, Any]]]:
    """Configs of the checkpoints that have a name: "unclip" of MindEye2, and "sdxl"."""
    vae = sdxl_vae_config()
    return {
        "unclip": {"unet": unclip_unet_config(), "vae": vae},
        "sdxl": {"unet": sdxl_unet_config(), "vae": vae},
    }


@dataclass(frozen=True)
class Entry:
    """One tensor: its name and shape in both layouts."""

    sgm: str
    diffusers: str
    sgm_shape: torch.Size
    shape: torch.Size


def entries(part: Part, config: Mapping[str, Any]) -> list[Entry]:
    """Every tensor of a part, from a model of this config without memory behind it."""
    with torch.device("meta"):
        model = part.kind(**config)
    table = {here: there for there, here in part.modules(model.config)}
    found = []
    for name, value in model.state_dict().items():
        module = next(m for m in reversed(list(accumulate(name.split("."), _dotted))) if m in table)
        convolved = name.endswith(part.convolved) if part.convolved else False
        there = torch.Size((*value.shape, 1, 1)) if convolved else value.shape
        sgm = part.prefix + table[module] + name.removeprefix(module)
        found.append(Entry(sgm, name, there, value.shape))
    return found


def to_diffusers(
    checkpoint: Mapping[str, Tensor], configs: Configs
) -> dict[str, dict[str, Tensor]]:
    """State dicts of diffusers' models, by the names in `PARTS`, out of an `sgm` checkpoint.

    Args:
        checkpoint: Names and tensors of the whole file.
        configs: Of the models to fill.

    Raises:
        ValueError: If a tensor is missing, has another shape, or is left over.
    """
    tables = {name: entries(PARTS[name], config) for name, config in configs.items()}
    expected = {entry.sgm: entry.sgm_shape for table in tables.values() for entry in table}
    given = {name: v.shape for name, v in checkpoint.items() if not name.startswith(SKIPPED)}
    _check(given, expected)
    return {
        name: {entry.diffusers: checkpoint[entry.sgm].reshape(entry.shape) for entry in table}
        for name, table in tables.items()
    }


def to_sgm(states: Mapping[str, Mapping[str, Tensor]], configs: Configs) -> dict[str, Tensor]:
    """The inverse of `to_diffusers`: one checkpoint, without the encoders of the conditions.

    Args:
        states: State dicts by the names in `PARTS`.
        configs: Of the same models.

    Raises:
        ValueError: If a tensor is missing, has another shape, or is left over.
    """
    result: dict[str, Tensor] = {}
    for name, config in configs.items():
        table, state = entries(PARTS[name], config), states[name]
        _check({key: v.shape for key, v in state.items()}, {e.diffusers: e.shape for e in table})
        result |= {entry.sgm: state[entry.diffusers].reshape(entry.sgm_shape) for entry in table}
    return result


def _check(given: Mapping[str, torch.Size], expected: Mapping[str, torch.Size]) -> None:
    if found := differences(expected, given):
        raise ValueError(f"a checkpoint of another model: {found}")


def _below(there: str, here: str, pairs: tuple[Pair, ...]) -> Iterator[Pair]:
    yield from ((f"{there}.{one}", f"{here}.{other}") for one, other in pairs)


def _dotted(one: str, other: str) -> str:
    return f"{one}.{other}"
