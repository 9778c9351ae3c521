"""Import of the parameters of the Universal Brain Encoder's reference implementation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from brainit_clusters.encoder.backbone import Backbone
from brainit_clusters.encoder.config import EncoderConfig
from brainit_clusters.encoder.model import BrainEncoder

_TABLE = "voxel_embed"
_DROPPED = "map_att.project_x.bias"  # the same for every token: the softmax drops it
_LAYERS = {
    "norm_in": "norm_in",
    "in_project": "project",
    "map_att.project": "query",
    "map_att.project_x": "key",
    "norm": "norm",
    "mlp.fc1": "fc1",
    "mlp.fc2": "fc2",
}
_CONVERT = (
    "holds more than tensors, and nothing in it is run; convert it to safetensors first, with "
    "brainit_bit (`NamedParts(read_checkpoint(path)).tensors`, which runs nothing either) or, "
    "where you trust the file, with the code that wrote it (`model.state_dict()`)"
)


def import_reference_encoder(
    source: str | Path | Mapping[str, Tensor],
    subjects: Mapping[str, int],
    backbone: Backbone,
    *,
    taps: tuple[int, ...] = EncoderConfig.taps,
    alpha: float = EncoderConfig.alpha,
) -> BrainEncoder:
    """Build an encoder from the parameters of the reference implementation (arXiv 2406.12179).

    Its names, with l a tap and b a block of the backbone, both from 0: `voxel_embed` [N, E],
    `feat_embed` [E, L C] (taps in order), `pos_embed` [T, E] (class token first), `norm_in.{l}`,
    `in_project.{l}`, `map_att.{l}.project` (queries), `map_att.{l}.project_x` (keys), `norm.{l}`,
    `mlp.{l}.fc1`, `mlp.{l}.fc2`, `lora_A.{b}.weight`, `lora_B.{b}.weight`. Of a block's two
    low-rank matrices the one [r, width] is taken to come first, whichever name it has, and their
    product to be scaled by alpha / r. The keys' bias is the same for every token, which a softmax
    does not see, and is left out. Weights become float32. Tensors of integers are left out.

    Args:
        source: A safetensors file, a file of `torch.save` with a state dict, or a state dict.
        subjects: Name -> number of voxels, in the order in which they lie in `voxel_embed`.
        backbone: The frozen backbone, whose own weights the parameters must not include.
        taps: Blocks that are tapped, counted from 1.
        alpha: Scale of the low-rank residuals, which the parameters do not tell.

    Returns:
        The encoder with all subjects, on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file holds more than tensors, or a parameter is missing, left over, not
            finite or of another shape than the others and the backbone ask for.
    """
    state = source if isinstance(source, Mapping) else _read(Path(source))
    floats = {name: value.float() for name, value in state.items() if value.is_floating_point()}
    for name, value in floats.items():
        if not bool(value.isfinite().all()):
            raise ValueError(f"{name}: holds NaN or infinity")
    config = _config(floats, taps, alpha)
    encoder = BrainEncoder(config, backbone)
    for subject, n_voxels in subjects.items():
        encoder.add_subject(subject, n_voxels)
    expected = {
        name: value for name, value in encoder.named_parameters() if "backbone." not in name
    }
    found = _renamed(floats, subjects, config, backbone.width)
    _check(found, expected)
    with torch.no_grad():
        for name, value in expected.items():
            value.copy_(found[name])
    return encoder.eval()


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected the encoder's parameters")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ValueError(f"{path}: {_CONVERT}") from error
    except (SafetensorError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{path}: neither safetensors nor a file of torch.save ({error})"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{path}: holds no state dict (names and tensors), or more than that")
    return state


def _config(state: Mapping[str, Tensor], taps: tuple[int, ...], alpha: float) -> EncoderConfig:
    def shape(name: str) -> torch.Size:
        if name not in state or state[name].ndim != 2 or not state[name].numel():
            raise ValueError(f"{name}: missing or no matrix")
        return state[name].shape

    channels = shape("in_project.0.weight")[0]
    return EncoderConfig(
        dim=shape(_TABLE)[1],
        channels=channels,
        taps=taps,
        rank=min(shape("lora_A.0.weight")) if "lora_A.0.weight" in state else 0,
        alpha=alpha,
        mlp_ratio=shape("mlp.0.fc1.weight")[0] // channels,
    )


def _renamed(
    state: Mapping[str, Tensor], subjects: Mapping[str, int], config: EncoderConfig, width: int
) -> dict[str, Tensor]:
    """The tensors under this package's names."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        start, _, rest = name.partition(".")
        number, _, end = rest.partition(".")
        layer, _, kind = f"{start}.{end}".rpartition(".")
        if f"{layer}.{kind}" == _DROPPED:
            continue
        if name == _TABLE:
            if sum(subjects.values()) != len(value):
                raise ValueError(
                    f"{name}: {len(value)} voxels, the subjects have {sum(subjects.values())}"
                )
            rows = value.split(list(subjects.values()))
            found |= {f"voxels.{s}": part for s, part in zip(subjects, rows, strict=True)}
        elif name == "feat_embed":
            found["readout_weight"] = value
        elif name == "pos_embed":
            found["position"] = value.squeeze(0) if value.ndim == 3 else value
        elif start in ("lora_A", "lora_B") and end == "weight":
            side = "b" if value.shape == (config.rank, width) else "a"
            found[f"low_rank.{number}.{side}.weight"] = value
        elif layer in _LAYERS:
            found[f"taps.{number}.{_LAYERS[layer]}.{kind}"] = value
        else:
            raise ValueError(f"{ascii(name)[:80]}: a parameter that this encoder has no place for")
    return found


def _check(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Names and shapes, by this package's names."""
    if missing := sorted(expected.keys() - found.keys()):
        raise ValueError(f"{len(missing)} parameters are missing, the first is {missing[0]}")
    if extra := sorted(found.keys() - expected.keys()):
        raise ValueError(f"{len(extra)} parameters too many, the first is {extra[0]}")
    for name, value in expected.items():
        if found[name].shape != value.shape:
            raise ValueError(f"{name}: expected {list(value.shape)}, got {list(found[name].shape)}")
