"""The low-level branch: its targets are the same whether features are kept or computed anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from brainit.models import resolve
from brainit.profile import load_profile
from brainit.stages import low_level
from brainit.stages.low_level import LowLevelTask
from brainit_dip.vgg import load_vgg


class FewImages:
    """Stands for the samples: six images, all of them trained on."""

    images = np.random.default_rng(0).integers(0, 256, (6, 96, 96, 3), dtype=np.uint8)

    def trained_images(self) -> torch.Tensor:
        return torch.arange(6)


def test_features_are_the_same_kept_or_computed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_profile("tiny", ["low_level.training.precision=no"]).low_level
    samples: Any = FewImages()
    model: Any = None
    vgg = load_vgg(resolve("zoo:vgg"))
    kept = LowLevelTask(model, samples, vgg, settings)
    monkeypatch.setattr(low_level, "KEPT_BYTES", 0)
    computed = LowLevelTask(model, samples, vgg, settings)
    assert kept.kept is not None
    assert computed.kept is None
    images = torch.tensor([4, 0, 4, 5])
    queries = torch.arange(0, kept.layout.n_tokens, 7)
    # Kept features are rounded to fp16: half a unit in the last of its 11 bits; and a VGG's
    # convolutions round differently with the size of their batch, about 1e-6 of the largest value.
    exact = computed._targets(images, queries)
    torch.testing.assert_close(
        kept._targets(images, queries), exact, rtol=2**-11, atol=2e-6 * float(exact.max())
    )
