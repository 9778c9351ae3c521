"""Functional clusters: the mixture's labels, transfer, bookkeeping, the file."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from brainit_clusters import VoxelClusters, fit_clusters, purity, subjects_per_cluster
from brainit_clusters.clusters import unit
from brainit_clusters.mixture import fit_mixture

K, E = 4, 6


@pytest.fixture(scope="module")
def world():
    """Voxels of two subjects around four far directions, of any length."""
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(E, K)))[0].T
    embeddings, truth = {}, {}
    for name, count in (("subj02", 150), ("subj01", 230)):
        truth[name] = rng.integers(0, K, count)
        points = directions[truth[name]] + 0.08 * rng.normal(size=(count, E))
        embeddings[name] = points * rng.uniform(0.2, 5, (count, 1))
    return embeddings, truth, fit_clusters(embeddings, K, seed=0)


def test_clusters_are_found_whatever_the_length(world):
    _, truth, clusters = world
    labels = np.concatenate([truth[name] for name in clusters.subjects])
    assert purity(clusters.labels, labels) == 1
    assert purity(labels, clusters.labels) == 1
    assert clusters.labels.dtype == np.int32
    np.testing.assert_allclose(np.linalg.norm(clusters.centres, axis=1), 1, atol=0.05)


def test_labels_are_the_most_likely_component(world):
    """Against scipy's Gaussian densities."""
    embeddings, _, clusters = world
    points = unit(np.concatenate(list(embeddings.values())))
    mixture = fit_mixture(points, K, seed=0)
    scores = [
        np.log(weight) + multivariate_normal(mean, covariance).logpdf(points)
        for weight, mean, covariance in zip(
            mixture.weights_, mixture.means_, mixture.covariances_, strict=True
        )
    ]
    np.testing.assert_array_equal(clusters.labels, np.argmax(scores, axis=0))


def test_same_seed_same_map(world):
    embeddings, _, clusters = world
    again = fit_clusters(embeddings, K, seed=0)
    np.testing.assert_array_equal(again.labels, clusters.labels)
    assert again.embedding_hash == clusters.embedding_hash


def test_voxels_and_composition(world):
    _, _, clusters = world
    assert clusters.subjects == ("subj02", "subj01")
    assert clusters.labels_of("subj01").shape == (230,)
    for cluster in range(K):
        for index, (name, voxels) in enumerate(clusters.voxels(cluster).items()):
            assert (clusters.labels_of(name)[voxels] == cluster).all()
            assert clusters.composition()[cluster, index] == len(voxels)
    assert clusters.composition().sum() == 380
    assert subjects_per_cluster(clusters).tolist() == [2] * K
    with pytest.raises(ValueError, match="no subject"):
        clusters.labels_of("subj03")
    with pytest.raises(ValueError, match="cluster 4"):
        clusters.voxels(4)


def test_a_new_voxel_gets_its_nearest_neighbour(world):
    embeddings, _, clusters = world
    new = np.random.default_rng(3).normal(size=(1500, E))  # more than one block
    labels, nearest = clusters.assign(new, embeddings)
    old = unit(np.concatenate([embeddings[name] for name in clusters.subjects])).astype(float)
    fresh = unit(new).astype(float)
    distance = np.linalg.norm(fresh[:, None] - old[None], axis=2)
    # Ties within float32 rounding of a dot product of unit vectors may go either way.
    chosen = distance[np.arange(1500), nearest]
    np.testing.assert_allclose(chosen**2, distance.min(axis=1) ** 2, atol=4 * 2.0**-23)
    np.testing.assert_array_equal(labels, clusters.labels[nearest])
    own, itself = clusters.assign(embeddings["subj01"], embeddings)
    np.testing.assert_array_equal(own, clusters.labels_of("subj01"))
    np.testing.assert_array_equal(itself, 150 + np.arange(230))
    with pytest.raises(ValueError, match="not those"):
        clusters.assign(new, {"subj01": embeddings["subj02"], "subj02": embeddings["subj02"]})


def test_round_trip(world, tmp_path):
    _, _, clusters = world
    found = VoxelClusters.load(clusters.save(tmp_path / "clusters.safetensors"))
    for name in ("labels", "subject_offsets", "centres"):
        np.testing.assert_array_equal(getattr(found, name), getattr(clusters, name))
    assert found.subjects == clusters.subjects
    assert found.embedding_hash == clusters.embedding_hash
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ValueError, match="text: holds no voxel clusters"):
        VoxelClusters.load(tmp_path / "text")
    with pytest.raises(FileNotFoundError):
        VoxelClusters.load(tmp_path / "none")


def test_purity_by_hand():
    assert purity([0, 0, 0, 1, 1], [7, 7, 2, 2, 5]) == 3 / 5
    assert purity([0, 1, 2], [4, 4, 4]) == 1
    with pytest.raises(ValueError, match="must both be"):
        purity([0], [0, 1])


def test_useless_embeddings_are_refused(world):
    embeddings, _, _ = world
    with pytest.raises(ValueError, match="subj01: an embedding is zero"):
        fit_clusters({**embeddings, "subj01": np.zeros((3, E))}, K, seed=0)
    with pytest.raises(ValueError, match="n >= 9"):
        fit_clusters({"subj01": np.eye(E)}, 9, seed=0)
    with pytest.raises(ValueError, match="empty"):
        fit_clusters({}, K, seed=0)
