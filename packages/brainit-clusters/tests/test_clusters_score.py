"""Voxel scores against numpy's and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from brainit_clusters.encoder import fraction_of_ceiling, voxel_correlation


def test_correlation_is_numpys():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 30, 7)) + 5
    truth = [np.corrcoef(x[:, v], y[:, v])[0, 1] for v in range(7)]
    np.testing.assert_allclose(voxel_correlation(x, y), truth, atol=1e-12)


def test_constant_voxels():
    rising, flat = np.arange(4.0)[:, None], np.full((4, 1), 0.1)
    assert voxel_correlation(flat, rising) == 0
    assert np.isnan(voxel_correlation(rising, flat))
    with pytest.raises(ValueError, match="n_images >= 2"):
        voxel_correlation(rising[:1], rising[:1])


def test_fraction_of_ceiling():
    found = fraction_of_ceiling([0.3, 0.3, 0.3], [0.36, 0.04, 0.0])
    np.testing.assert_allclose(found, [0.5, np.nan, np.nan])
