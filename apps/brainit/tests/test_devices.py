"""Training stages on a GPU, as far as a machine without one can tell: tensors on the right side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from brainit.computing import autocast, computing_type, device
from brainit.profile import load_profile
from brainit.stages.decoding import bit_config
from brainit.stages.low_level import LowLevelTask, layout_of, load_target
from brainit.stages.samples import Batch, Draw
from brainit.stages.semantic import SemanticTask
from brainit_bit import BrainInteractionTransformer

ATEN = torch.ops.aten
CROSSING = (ATEN._to_copy.default, ATEN.copy_.default)
INDEXING = (ATEN.index.Tensor, ATEN.index_put_.default)
GPU = torch.device("cuda:0")
DRAW = Draw("a", np.arange(4), 0)
TOKENS = torch.randn(6, 9, 8).half()


class Elsewhere(torch.Tensor):
    """Values on the host that say they are on a GPU, whose operations `compute` does."""

    here: torch.Tensor

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> Elsewhere:
        self = torch.Tensor._make_wrapper_subclass(
            cls, here.shape, strides=here.stride(), dtype=here.dtype, dispatch_device=True
        )
        self.here = here
        return self

    def __repr__(self) -> str:  # type: ignore[override]
        return f"on the GPU: {self.here!r}"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class Emulation(TorchDispatchMode):
    """Takes what is made on the GPU, too."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Compute on the host what a GPU would; as there, both sides in one operation are an error."""
    if func is torch.ops.prim.device.default:
        return GPU if isinstance(args[0], Elsewhere) else args[0].device
    if func is ATEN._pin_memory.default:  # where there is no driver no memory can be pinned
        return args[0]
    checked = (args[0], *args[2:]) if func in INDEXING else args  # indices may be the host's
    tensors = [x for x in tree_leaves((checked, kwargs)) if isinstance(x, torch.Tensor)]
    # Single numbers of the host may be used anywhere.
    sides = {isinstance(x, Elsewhere) for x in tensors if x.ndim or isinstance(x, Elsewhere)}
    if len(sides) > 1 and func not in CROSSING:
        raise RuntimeError(f"{func}: tensors on both devices")
    target = kwargs.get("device")
    elsewhere = True in sides if target is None else target.type == "cuda"
    options = kwargs if target is None else kwargs | {"device": torch.device("cpu")}
    options = {name: value for name, value in options.items() if name != "pin_memory"}
    args_here, kwargs_here = tree_map_only(Elsewhere, lambda x: x.here, (args, options))
    result = func(*args_here, **kwargs_here)
    if func._schema.is_mutable:
        return kwargs.get("out", args[0])
    return tree_map_only(torch.Tensor, Elsewhere, result) if elsewhere else result


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    torch._C._ensureCUDADeviceGuardSet()  # as FakeTensorMode does where there is no driver
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    with torch.no_grad(), Emulation():
        yield
    torch.__future__.set_overwrite_module_params_on_conversion(False)


class FewSamples:
    """Stands for the samples: six images, all of them trained on, and two subjects."""

    images = np.random.default_rng(0).integers(0, 256, (6, 96, 96, 3), dtype=np.uint8)

    def trained_images(self) -> torch.Tensor:
        return torch.arange(6)

    def load(self, draw: Draw) -> Batch:
        betas = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
        return Batch(draw.subject, betas, torch.tensor([1, 5, 2, 0]), draw.seed)

    def held_out(self, split: str) -> list[Batch]:
        return [self.load(Draw(name, np.arange(4), 0)) for name in "ab"]


def transformer(settings: Any, n_tokens: int, width: int) -> BrainInteractionTransformer:
    """As the engine has it: moved."""
    model = BrainInteractionTransformer(bit_config(settings, 3, n_tokens, width))
    for name in "ab":
        model.add_subject(name, torch.tensor([0, 1, 2, 1, 0]))
    return model.to(device())


def test_the_emulation_sees_two_sides(gpu: None) -> None:
    layer, x = torch.nn.Linear(3, 2).to(device()), torch.ones(4, 3)
    assert layer(x.to(device())).device == GPU
    assert layer(x.to(device())).cpu().device.type == "cpu"
    with pytest.raises(RuntimeError, match="both devices"):
        layer(x)
    with pytest.raises(RuntimeError, match="both devices"):
        x[torch.arange(4)] = torch.zeros(4, 3, device=device())


def test_semantic_training_mixes_no_devices(gpu: None) -> None:
    settings = load_profile("tiny").semantic
    samples: Any = FewSamples()
    model = transformer(settings, 9, 8)
    task = SemanticTask(model, samples, TOKENS.__getitem__, settings)
    assert task.loss(task.load(DRAW)).device == GPU
    assert np.isfinite(task.validate()["score"])


def test_low_level_training_mixes_no_devices(gpu: None) -> None:
    profile = load_profile("tiny", ["low_level.training.precision=no"])
    samples: Any = FewSamples()
    vgg = load_target(profile)
    layout = layout_of(vgg)
    model = transformer(profile.low_level, layout.n_tokens, layout.token_dim)
    task = LowLevelTask(model, samples, vgg, profile.low_level)
    assert task.kept is not None
    assert task.kept.device.type == "cpu"
    assert task.loss(task.load(DRAW)).device == GPU
    assert np.isfinite(task.validate()["score"])
    LowLevelTask.calibrate.__wrapped__(task)  # without inference mode, which takes no subclasses


@pytest.mark.parametrize("has_it", [False, True])
def test_the_shipped_profiles_compute_in_what_the_device_multiplies(
    has_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brainit.computing.multiplies_bfloat16", lambda device: has_it)
    for name in ("tiny", "nsd"):
        profile = load_profile(name)
        precisions = [profile.encoder.training.precision, profile.image.precision]
        assert {computing_type(p) for p in precisions} == {
            torch.bfloat16 if has_it else torch.float32
        }
    with autocast("auto"):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if has_it else torch.float32)
