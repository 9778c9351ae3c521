"""The precision "auto" is what the device multiplies."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from brainit_dip import InversionConfig, VGGFeatures, invert, multiplies_bfloat16

CPU = torch.device("cpu")
CPUINFO = Path("/proc/cpuinfo")


@pytest.mark.parametrize("has_it", [False, True])
def test_auto_is_bfloat16_where_the_processor_has_it(
    has_it: bool, vgg: VGGFeatures, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brainit_dip.config.multiplies_bfloat16", lambda device: has_it)
    maps = vgg(images[:1])
    small = {"image_size": 32, "steps": 2, "cuda_graph": False}
    named = ("float32", "bfloat16")
    answers = {
        precision: invert(maps, vgg, InversionConfig.named("fast", precision=precision, **small))
        for precision in ("auto", *named)
    }
    assert torch.equal(answers["auto"].images, answers[named[has_it]].images)
    assert not torch.equal(answers["auto"].images, answers[named[not has_it]].images)


@pytest.mark.parametrize("flag", ["amx_bf16", "avx512_bf16", "bf16", "sve_bf16"])
def test_any_instruction_for_it_counts(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    for has_it in (False, True):
        flags = {"avx2": True, "avx512_f": True, "neon": True, flag: has_it}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda flags=flags: flags, raising=False)
        assert multiplies_bfloat16(CPU) is has_it
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not multiplies_bfloat16(CPU)


@pytest.mark.skipif(not CPUINFO.exists(), reason="only Linux lists a processor's flags")
def test_this_processor_is_what_the_kernel_says() -> None:
    flags = set(re.findall(r"^(?:flags|Features)\s*:(.*)$", CPUINFO.read_text(), re.M)[0].split())
    known = {"amx_bf16", "avx512_bf16", "bf16", "svebf16"}
    assert multiplies_bfloat16(CPU) == bool(flags & known)
