"""The precision "auto" is what the device multiplies."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from brainit_dip import InversionConfig, VGGFeatures, invert, multiplies_bfloat16

CPU = torch.device("cpu")


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


def test_a_processor_without_the_instructions_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert multiplies_bfloat16(CPU) in (False, True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not multiplies_bfloat16(CPU)
