"""The low-level branch: targets are the same kept or computed anew; what the loss is made of."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from brainit.models import resolve
from brainit.profile import load_profile
from brainit.stages import low_level
from brainit.stages.low_level import THUMBNAIL_LOSS, LowLevelTask
from brainit_bit import draw_queries, multi_scale_info_nce
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


@pytest.mark.parametrize("thumbnail", [0, 4])
def test_loss_is_the_contrast_of_vgg_levels_and_the_thumbnails_error(thumbnail: int) -> None:
    settings = load_profile("tiny", ["low_level.training.precision=no"]).low_level
    samples: Any = FewImages()
    model: Any = None
    task = LowLevelTask(model, samples, load_vgg(resolve("zoo:vgg"), thumbnail), settings)
    generator = torch.Generator().manual_seed(0)
    counts = [3, 4, 2, 2, 2, 3][: 6 if thumbnail else 5]
    queries, levels = draw_queries(task.layout.level_sizes, counts, generator)
    batch: Any = SimpleNamespace(images=torch.tensor([1, 5, 2]))
    predicted = torch.randn(3, len(queries), task.layout.token_dim, generator=generator)
    target = task._targets(batch.images, queries)
    vgg = levels < 5
    assert task.targets.whitening is not None
    whitened = task.targets.whitening(target[:, vgg], levels[vgg])
    expected = multi_scale_info_nce(predicted[:, vgg], whitened, levels[vgg])
    if thumbnail:
        tokens = torch.arange(task.layout.n_tokens - (thumbnail // 2) ** 2, task.layout.n_tokens)
        shown = task._targets(torch.arange(6), tokens).double()
        wanted = (target[:, ~vgg].double() - shown.mean()) / shown.std()
        error = (predicted[:, ~vgg].double() - wanted).square().mean().float()
        expected = expected + THUMBNAIL_LOSS * error
    torch.testing.assert_close(task._loss(predicted, batch, queries, levels), expected)
