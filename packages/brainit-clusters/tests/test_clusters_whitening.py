"""Whitened embeddings: equal variance along all directions, equal length, shared by subjects."""

from __future__ import annotations

import numpy as np
import pytest

from brainit_clusters.whitening import whitened


@pytest.fixture
def embeddings() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(6, 6)) * np.array([10, 5, 2, 1, 0.5, 0.2])
    return {name: rng.normal(size=(n, 6)) @ mixing + 3 for name, n in (("a", 400), ("b", 600))}


def test_directions_have_about_equal_variance(embeddings: dict[str, np.ndarray]) -> None:
    result = np.concatenate(list(whitened(embeddings, 6).values()))
    raw = np.concatenate(list(embeddings.values()))
    raw /= np.linalg.norm(raw, axis=1, keepdims=True)
    spread = np.linalg.svd(result - result.mean(0), compute_uv=False)
    before = np.linalg.svd(raw - raw.mean(0), compute_uv=False)
    # Whitening makes the ratio 1; giving all vectors one length bends it, here to 1.8 from 35.
    assert 10 * spread[0] / spread[-1] < before[0] / before[-1]


def test_length_width_and_padding(embeddings: dict[str, np.ndarray]) -> None:
    for dim in (3, 6, 9):
        result = whitened(embeddings, dim, length=2.5)
        for name, values in embeddings.items():
            assert result[name].shape == (len(values), dim)
            np.testing.assert_allclose(np.linalg.norm(result[name], axis=1), 2.5, rtol=1e-6)
    assert not whitened(embeddings, 9)["a"][:, 6:].any()


def test_scale_of_the_input_does_not_matter(embeddings: dict[str, np.ndarray]) -> None:
    first, second = whitened(embeddings, 4), whitened({k: 7 * v for k, v in embeddings.items()}, 4)
    # Directions are free up to sign.
    np.testing.assert_allclose(np.abs(first["b"]), np.abs(second["b"]), atol=1e-6)


def test_bad_width_is_refused(embeddings: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="dim: expected 1 or more, got 0"):
        whitened(embeddings, 0)
