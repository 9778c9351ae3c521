"""The coarse image: how much each level of predicted features counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from brainit.profile import load_profile
from brainit.stages.coarse import level_weights
from brainit_bit import LevelCalibration

CALIBRATION = LevelCalibration(
    [3, 2], 4, explained=torch.tensor([0.2, 0.5]), residual=torch.tensor([0.1, 0.25])
)


@pytest.mark.parametrize(("weigh", "expected"), [(True, (0.6, 0.4)), (False, (1.0, 1.0))])
def test_only_a_thumbnail_has_the_thumbnails_factor(
    weigh: bool, expected: tuple[float, float]
) -> None:
    """Tokens times explained share over residual: 3 * 2 to 2 * 2, as shares."""
    settings = replace(load_profile("tiny").coarse, weigh_levels=weigh, thumbnail_weight=10.0)
    first, last = expected
    plain = level_weights(settings, CALIBRATION, thumbnail=False)
    assert plain == pytest.approx((first, last))
    more = level_weights(settings, CALIBRATION, thumbnail=True)
    assert more == pytest.approx((first, 10 * last))


def test_published_levels_count_the_same() -> None:
    published = load_profile("nsd").coarse
    assert level_weights(published, CALIBRATION, thumbnail=False) == (1.0, 1.0)
