"""The spin test: smooth but unrelated maps are found related no more often than they should be."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from brainit_clusters import SubjectData
from brainit_clusters.analysis import Spins, roi_enrichment, spun_agreement

K, N_VERTICES, N_SPINS = 4, 400, 39


def sphere(n):
    """Points spread evenly over the unit sphere (a Fibonacci lattice): [n, 3]."""
    height = 1 - (2 * np.arange(n) + 1) / n
    angle = np.pi * (1 + 5**0.5) * np.arange(n)
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)


LEFT = sphere(N_VERTICES)
RIGHT = LEFT * [-1, 1, 1]


def subject(name, vertices):
    n = 2 * len(vertices)
    return SubjectData(
        name=name,
        betas=np.zeros((1, n), np.float32),
        image_id=np.array([0]),
        repeats=np.ones(1, np.int16),
        split=np.array(["train"]),
        vertex=np.tile(vertices, 2).astype(np.int32),
        hemisphere=np.repeat([0, 1], len(vertices)).astype(np.uint8),
        noise_ceiling=np.ones(n, np.float32),
    )


def smooth_labels(rng, vertices):
    """The largest of K smooth random fields, alike in both hemispheres."""
    waves, phase = 4 * rng.normal(size=(K, 50, 3)), rng.uniform(0, 2 * np.pi, (K, 50, 1))
    fields = np.cos(waves @ LEFT[vertices].T + phase).sum(axis=1)
    return np.tile(fields.argmax(axis=0), 2)


@pytest.mark.parametrize("mask", ["whole", "part"])
def test_false_positives_of_smooth_maps(mask):
    vertices = np.flatnonzero(LEFT[:, 1] < (2 if mask == "whole" else -0.4))
    spins = list(Spins([subject("a", vertices)], [LEFT, RIGHT], N_SPINS, seed=1))

    class Drawn:
        """The same rotations for every pair of maps: these are drawn anew each time."""

        n = N_SPINS

        def __iter__(self):
            return iter(spins)

    rng, n_tests, level = np.random.default_rng(0), 150, 0.1
    found = {"spin": 0, "plain": 0}
    for seed in range(n_tests):
        first, second = ({"a": smooth_labels(rng, vertices)} for _ in range(2))
        for name, choice in (("spin", Drawn()), ("plain", None)):
            tested = roi_enrichment(first, second, N_SPINS, seed, background=None, spins=choice)
            found[name] += tested.p[0, 0] <= level
    # Four deviations of a binomial count at the level: 15 + 14.7.
    bound = n_tests * level + 4 * np.sqrt(n_tests * level * (1 - level))
    assert found["spin"] <= bound < found["plain"]


def test_related_maps_are_found():
    rng = np.random.default_rng(3)
    vertices = np.arange(N_VERTICES)
    labels = {"a": smooth_labels(rng, vertices), "b": smooth_labels(rng, vertices)}
    spins = Spins([subject("a", vertices), subject("b", vertices)], [LEFT, RIGHT], N_SPINS)
    same = spun_agreement(labels, labels, spins)
    assert same.adjusted_rand == 1
    assert same.p == pytest.approx(1 / (1 + N_SPINS))
    assert abs(same.control.mean()) < 0.2
    enriched = roi_enrichment(labels, labels, spins=spins, background=None)
    assert enriched.n_permutations == N_SPINS
    np.testing.assert_array_equal(np.diag(enriched.p), np.full(K, 1 / (1 + N_SPINS)))
    assert enriched.p[~np.eye(K, dtype=bool)].min() > 0.05


def test_spins_turn_both_hemispheres_and_all_subjects_alike():
    whole, part = np.arange(N_VERTICES), np.flatnonzero(LEFT[:, 2] < 0.5)
    spins = Spins([subject("a", whole), subject("b", part)], [LEFT, RIGHT], 5, seed=2)
    for first, again in zip(spins, spins, strict=True):
        source = first["a"]
        np.testing.assert_array_equal(source, again["a"])
        # Mirrored spheres turned by mirrored rotations: the same vertex in both.
        np.testing.assert_array_equal(source[:N_VERTICES], source[N_VERTICES:] - N_VERTICES)
        # Distances are kept up to the spacing of vertices: about sqrt(4 pi / 400) = 0.18 each end.
        turned = LEFT[source[:N_VERTICES]]
        change = np.linalg.norm(turned[0] - turned, axis=1) - np.linalg.norm(LEFT[0] - LEFT, axis=1)
        assert np.abs(change).max() < 2 * 0.18
        # The second subject takes the same vertices, where it has them.
        mine = first["b"][: len(part)]
        kept = mine >= 0
        np.testing.assert_array_equal(part[mine[kept]], source[part[kept]])
        assert set(source[part[~kept]]).isdisjoint(part)
        assert kept.mean() >= 0.4
    assert any(not np.array_equal(s["a"], np.arange(2 * N_VERTICES)) for s in spins)


def test_a_voxel_without_a_label_stays_without_one_among_all_subjects():
    """The agreement of each subject's part, put together by hand."""
    whole, part = np.arange(N_VERTICES), np.flatnonzero(LEFT[:, 2] < 0.5)
    rng = np.random.default_rng(4)
    first, second = (
        {"a": smooth_labels(rng, whole), "b": smooth_labels(rng, part)} for _ in range(2)
    )
    spins = Spins([subject("a", whole), subject("b", part)], [LEFT, RIGHT], 6, seed=5)
    found = spun_agreement(first, second, spins)
    for control, sources in zip(found.control, spins, strict=True):
        assert (sources["b"] < 0).any()
        here = [first[name][source >= 0] for name, source in sources.items()]
        there = [second[name][source[source >= 0]] for name, source in sources.items()]
        expected = adjusted_rand_score(np.concatenate(here), np.concatenate(there))
        assert control == pytest.approx(expected, abs=1e-12)


def test_what_cannot_be_turned_is_refused():
    data = subject("a", np.arange(20))
    with pytest.raises(ValueError, match="vertex 19 is not on a sphere of 10"):
        Spins([data], [sphere(10), sphere(10)])
    with pytest.raises(ValueError, match="expected a sphere about it"):
        Spins([data], [LEFT + 3, RIGHT])
    few = Spins([subject("a", np.array([0, 200, 399]))], [LEFT, RIGHT], 1, least_covered=1)
    with pytest.raises(ValueError, match="keeps 100% of the voxels"):
        next(iter(few))
    spins = Spins([data], [LEFT, RIGHT], 1, least_covered=0.01)
    with pytest.raises(ValueError, match="spins are of the voxels"):
        spun_agreement({"b": np.zeros(40, int)}, {"b": np.zeros(40, int)}, spins)
