"""The simulated NSD tree is read the same through every route."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from brainit.simulation import SimulationConfig, simulate
from brainit.simulation.routes import ROUTES
from brainit_clusters import BrainDataset, NSDConfig, SubjectData, prepare_nsd

WORLD = SimulationConfig(
    n_subjects=1,
    own_images=14,
    shared_images=6,
    sessions=2,
    external_images=0,
    voxels=(200, 200),
    seed=3,
)
# Rounding to 1/300 % moves a beta by at most 1/600 %. The least of these voxels varies by about
# 0.5 e^-1 % (three standard deviations below the median amplitude) within a session, so a z-score
# moves by at most (1 + |z|) / 600 / 0.18 < 0.05 for |z| < 4; float16 adds 2 x 4 x 2^-12.
ROUNDING = 0.05 + 2.0**-9


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("routes") / "nsd"
    return simulate(root, WORLD, progress=False, routes=("fsaverage", *ROUTES))


def _read(tree: Path, space: str) -> SubjectData:
    config = NSDConfig(space=space, image_size=96)
    path = prepare_nsd(tree, tree.parent / f"{space}.h5", config, progress=False)
    with BrainDataset.open(path) as dataset:
        return dataset.subject("subj01")


PACKED = ("func1pt8mm", "func1mm")


@pytest.mark.parametrize(
    ("space", "packed"), [*((space, False) for space in ROUTES), *((s, True) for s in PACKED)]
)
def test_every_route_gives_the_same_dataset(tree: Path, space: str, packed: bool) -> None:
    truth = _read(tree, "fsaverage")
    hdf5 = sorted(tree.glob(f"nsddata_betas/ppdata/*/{space}/*/betas_session*.hdf5"))
    assert hdf5 or not packed
    for path in hdf5 if packed else ():
        path.rename(path.with_suffix(".away"))  # NIfTI is read where there is no HDF5
    try:
        found = _read(tree, space)
    finally:
        for path in hdf5 if packed else ():
            path.with_suffix(".away").rename(path)
    assert found.betas.shape == truth.betas.shape == (20, 200 - 2 * 6)
    assert found.attributes["dropped_vertices"]["outside"] == 2 * 6
    np.testing.assert_allclose(found.betas, truth.betas, atol=ROUNDING)
    np.testing.assert_array_equal(found.noise_ceiling, truth.noise_ceiling)
    for name in ("image_id", "repeats", "split"):
        np.testing.assert_array_equal(getattr(found, name), getattr(truth, name))
    for atlas, labels in truth.roi.items():
        np.testing.assert_array_equal(found.roi[atlas], labels)
    if space == "nativesurface":
        np.testing.assert_array_equal(found.vertex, truth.vertex)
    else:
        assert found.ijk is not None


def test_unknown_routes_are_refused(tmp_path: Path) -> None:
    for routes, message in ((["fsaverage", "func2mm"], "func2mm"), (["func1mm"], "always written")):
        with pytest.raises(ValueError, match=message):
            simulate(tmp_path / "none", WORLD, progress=False, routes=routes)
