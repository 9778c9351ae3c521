from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from brainit_eval.feature_cache import FeatureCache, read_features, write_features

KEY = {"protocol": "a", "weights": "b", "images": "c"}


def batches(rows: int = 7, size: int = 3):
    values = torch.arange(rows * 5.0).reshape(rows, 5)
    for part in values.split(size):
        yield {"wide": part, "narrow": part[:, :2] * 10}


def test_rows_are_written_in_order_to_plain_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "new" / "features.safetensors"
    write_features(path, 7, batches())
    expected = torch.arange(35.0).reshape(7, 5)
    for found in (load_file(path), read_features(path)):
        torch.testing.assert_close(found["wide"], expected, rtol=0, atol=0)
        torch.testing.assert_close(found["narrow"], expected[:, :2] * 10, rtol=0, atol=0)


def test_features_are_made_once_for_one_key_and_again_for_another(tmp_path: Path) -> None:
    made = []

    def make():
        made.append(1)
        return batches()

    for number, key in enumerate([KEY, KEY, *({**KEY, name: "other"} for name in KEY)]):
        found = FeatureCache(tmp_path).get(key, 7, make)
        assert found["wide"].shape == (7, 5)
        assert len(made) == max(1, number)
    assert len(list(tmp_path.iterdir())) == 4  # nothing temporary is left


def test_a_stopped_run_leaves_no_file_that_looks_whole(tmp_path: Path) -> None:
    def stopped():
        yield from batches(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FeatureCache(tmp_path).get(KEY, 7, stopped)
    with pytest.raises(ValueError, match="expected 7 rows of features, got 6"):
        FeatureCache(tmp_path).get(KEY, 7, lambda: batches(6))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    FeatureCache(tmp_path).get(KEY, 7, batches)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    for size in (0, 4, 60, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match="damaged, remove it"):
            FeatureCache(tmp_path).get(KEY, 7, batches)


def test_the_users_cache_folder_is_used(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert FeatureCache().folder == tmp_path / "brainit-eval"
