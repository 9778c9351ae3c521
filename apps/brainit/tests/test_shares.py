"""Shares of the work: what launchers and users say, and who makes which batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from brainit.profile import load_profile
from brainit.shares import Share
from brainit.stages.evaluate import repetitions
from brainit.stages.scans import Scans, batches


def test_a_share_is_named_or_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Share.parse("3/8") == Share(3, 8)
    for wrong in ("8/8", "1", "-1/2", "a/b", "1/0"):
        with pytest.raises(ValueError, match="expected INDEX/COUNT"):
            Share.parse(wrong)
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    assert Share.launched() == Share(0, 1)
    monkeypatch.setenv("SLURM_PROCID", "2")
    monkeypatch.setenv("SLURM_NTASKS", "4")  # as in a batch script, which is one process
    assert Share.launched() == Share(0, 1)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    assert Share.launched() == Share(2, 4)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert Share.launched() == Share(1, 2)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shares_hold_each_batch_once_and_their_own_coarse_images(count: int) -> None:
    profile = load_profile("tiny", ["coarse.batch_size=4", "image.batch_size=6"])
    own = {
        name: Scans(np.arange(n), torch.zeros(n, 1), np.zeros((n, 1, 1, 3), np.uint8), None)
        for name, n in (("a", 31), ("b", 12), ("c", 1))
    }
    alone: Any = SimpleNamespace(profile=profile, share=Share())
    everything = {size: list(batches(alone, own, size)) for size in (4, 6)}
    rows = [(name, row) for name, part in everything[4] for row in range(part.start, part.stop)]
    assert rows == [(name, row) for name, one in own.items() for row in range(len(one.image_id))]
    found: dict[int, list[Any]] = {4: [], 6: []}
    for index in range(count):
        run: Any = SimpleNamespace(profile=profile, share=Share(index, count))
        mine = {size: list(batches(run, own, size)) for size in (4, 6)}
        held = [
            {(name, row) for name, part in mine[size] for row in range(part.start, part.stop)}
            for size in (4, 6)
        ]
        assert held[0] == held[1]
        for size, parts in mine.items():
            found[size] += parts
    for size, parts in found.items():
        assert sorted(map(str, parts)) == sorted(map(str, everything[size]))


def test_repetitions_have_every_image_once() -> None:
    ids = {"a": np.array([5, 7, 5, 7, 7]), "b": np.array([5, 5, 5])}
    times = repetitions(ids)
    assert len(times) == 2  # as often as the rarest image
    for time in times:
        np.testing.assert_array_equal(ids["a"][time["a"]], [5, 7])
    np.testing.assert_array_equal([time["a"] for time in times], [[0, 1], [2, 3]])
    np.testing.assert_array_equal([time["b"] for time in times], [[0], [1]])
