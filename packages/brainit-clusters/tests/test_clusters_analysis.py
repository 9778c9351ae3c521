"""Analyses: planted structure is found, none is not, tables are those made by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import hypergeom, kstest
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score
from sklearn.mixture import GaussianMixture

from brainit_clusters import SubjectData, VoxelClusters
from brainit_clusters.analysis import (
    agreement,
    choose_n_clusters,
    cluster_responses,
    composition,
    coordinate_clusters,
    corrected,
    half_stability,
    homogeneity,
    jsonable,
    kmeans_clusters,
    label_preference,
    mesh_edges,
    permutation_p,
    roi_enrichment,
    seed_stability,
    spatial_compactness,
    subject_stability,
)
from brainit_clusters.clusters import unit

K, E = 3, 4


@pytest.fixture(scope="module")
def planted():
    """Voxels of three subjects around three orthogonal directions."""
    rng = np.random.default_rng(0)
    truth = {f"subj0{s}": rng.integers(0, K, 60) for s in (1, 2, 3)}
    noise = {name: 0.05 * rng.normal(size=(60, E)) for name in truth}
    return {name: np.eye(E)[truth[name]] + noise[name] for name in truth}, truth


def formless(seed=1):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(60, E)) for name in ("subj01", "subj02")}


def grid(side):
    """Triangles of a square of side x side vertices, numbered by rows."""
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    upper = np.stack([corner, corner + 1, corner + side], axis=1)
    lower = np.stack([corner + 1, corner + side, corner + side + 1], axis=1)
    return np.concatenate([upper, lower])


def subject(name, betas, image_id, split):
    n = betas.shape[1]
    return SubjectData(
        name=name,
        betas=np.asarray(betas, np.float32),
        image_id=np.asarray(image_id),
        repeats=np.ones(len(betas), np.int16),
        split=np.asarray(split),
        vertex=np.arange(n, dtype=np.int32),
        hemisphere=np.zeros(n, np.uint8),
        noise_ceiling=np.ones(n, np.float32),
    )


def test_agreement_is_scikit_learns_over_all_subjects():
    rng = np.random.default_rng(0)
    first = {"b": rng.integers(0, 4, 30), "a": rng.integers(0, 4, 20)}
    second = {"a": rng.integers(0, 5, 20), "b": first["b"] // 2}
    found = agreement(first, second)
    ours = np.concatenate([first["a"], first["b"]])
    theirs = np.concatenate([second["a"], second["b"]])
    assert found.adjusted_rand == pytest.approx(adjusted_rand_score(ours, theirs))
    expected = adjusted_mutual_info_score(ours, theirs)
    assert found.adjusted_mutual_information == pytest.approx(expected)
    with pytest.raises(ValueError, match="second labels of a: 19, expected 20"):
        agreement(first, {"a": second["a"][1:], "b": second["b"]})
    with pytest.raises(ValueError, match=r"are of \['a'\], expected \['a', 'b'\]"):
        agreement(first, {"a": second["a"]})
    with pytest.raises(ValueError, match="float64"):
        agreement({"a": np.zeros(3)}, {"a": np.zeros(3, int)})


@pytest.mark.parametrize("stability", [half_stability, subject_stability])
def test_planted_clusters_are_stable_and_formless_ones_are_not(planted, stability):
    found = stability(planted[0], K, seed=0)
    assert found.adjusted_rand.min() == 1
    assert found.adjusted_mutual_information.min() == pytest.approx(1)
    assert stability(formless(), K, seed=0, fit=kmeans_clusters).adjusted_rand.mean() < 0.5


def test_stability_over_seeds_and_subjects_is_named(planted):
    found = seed_stability(planted[0], K, seeds=(0, 1, 5))
    assert found.compared == ("seeds 0 and 1", "seeds 0 and 5", "seeds 1 and 5")
    assert found.adjusted_rand.tolist() == [1, 1, 1]
    left_out = subject_stability(planted[0], K, fit=kmeans_clusters)
    assert left_out.compared == tuple(f"{name} left out" for name in planted[0])
    with pytest.raises(ValueError, match="at least two different"):
        seed_stability(planted[0], K, seeds=(1, 1))
    with pytest.raises(ValueError, match="at least two"):
        subject_stability({"subj01": np.eye(3)}, 2)
    with pytest.raises(ValueError, match="at least one split"):
        half_stability(planted[0], K, n_splits=0)


def test_stability_of_labels_that_are_noise_is_chance(planted):
    """A method that draws labels at random agrees with itself no more than chance does."""

    def noise(embeddings, n_clusters, seed):
        fitted = kmeans_clusters(embeddings, n_clusters, 0)
        labels = np.random.default_rng(seed).integers(0, n_clusters, len(fitted.labels))
        return replace(fitted, labels=labels.astype(np.int32))

    # The adjusted Rand index of independent labels has mean 0 and, for 180 voxels and 3 labels, a
    # deviation of about 2 / 180; the mean over 10 pairs stays far below 0.05.
    assert abs(seed_stability(planted[0], K, fit=noise).adjusted_rand.mean()) < 0.05


def test_number_of_clusters_is_found(planted):
    found = choose_n_clusters(planted[0], (2, 3, 5), n_splits=1)
    assert found.best()["bic"] == 3
    assert found.best()["adjusted_rand"] == 3
    assert found.log_likelihood[1] > found.log_likelihood[0]
    with pytest.raises(ValueError, match="candidates"):
        choose_n_clusters(planted[0], ())


def test_bic_and_likelihood_are_scikit_learns():
    """With one component, whose fit is in closed form, on the voxels that the seed leaves in."""
    embeddings = formless()
    found = choose_n_clusters(embeddings, (1,), seed=3, held_out=0.25, n_splits=1)
    rng = np.random.default_rng(3)
    parts = [rng.permutation(unit(values)) for values in embeddings.values()]
    fitted = np.concatenate([values[15:] for values in parts]).astype(float)
    scored = np.concatenate([values[:15] for values in parts]).astype(float)
    mixture = GaussianMixture(1, reg_covar=1e-4).fit(fitted)
    assert found.bic[0] == pytest.approx(mixture.bic(fitted), rel=1e-6)
    assert found.log_likelihood[0] == pytest.approx(mixture.score(scored), rel=1e-6)


def test_composition_by_hand():
    clusters = VoxelClusters(
        labels=np.array([0, 0, 1, 0, 1, 1, 1], np.int32),
        subject_offsets=np.array([0, 3, 7]),
        subjects=("a", "b"),
        centres=np.zeros((3, 2), np.float32),
        embedding_hash="",
    )
    found = composition(clusters, {"a": [0, 1, 1], "b": [0, 0, 0, 1]})
    assert found.subjects == ("a", "b")
    assert found.counts[:, :, :2].tolist() == [[[1, 1], [1, 0]], [[0, 1], [2, 1]], [[0, 0]] * 2]
    assert not found.counts[:, :, 2].any()
    np.testing.assert_allclose(found.subject_share, [[2 / 3, 1 / 4], [1 / 3, 3 / 4], [0, 0]])
    np.testing.assert_allclose(found.left_share, [2 / 3, 1 / 2, np.nan])
    p = np.array([8 / 11, 3 / 11])
    np.testing.assert_allclose(found.effective_subjects[0], np.prod(p**-p))
    assert found.effective_subjects[2] == 0
    volume = composition(clusters, {"a": [2, 2, 2], "b": [1, 2, 0, 0]})
    assert volume.counts[0].tolist() == [[0, 0, 2], [0, 1, 0]]
    np.testing.assert_allclose(volume.left_share, [0, 1, np.nan])
    with pytest.raises(ValueError, match="hemisphere holds 3"):
        composition(clusters, {"a": [0, 1, 3], "b": [0, 0, 0, 1]})


def test_corrections_by_hand():
    p = np.array([[0.01, 0.04], [0.03, np.nan]])
    np.testing.assert_allclose(corrected(p, "holm"), [[0.03, 0.06], [0.06, np.nan]])
    # Of three: 0.01 x 3/1, 0.03 x 3/2, 0.04 x 3/3, each no larger than those after it.
    bh = [[0.03, 0.04], [0.04, np.nan]]
    np.testing.assert_allclose(corrected(p, "benjamini-hochberg"), bh)
    assert permutation_p(0, 99) == 0.01
    with pytest.raises(ValueError, match="correction is 'none'"):
        corrected(p, "none")
    with pytest.raises(ValueError, match="must lie in"):
        corrected([1.5], "holm")


def test_enrichment_agrees_with_the_exact_distribution():
    """Permuting within subjects makes each overlap a sum of independent hypergeometric counts."""
    rng = np.random.default_rng(0)
    labels = {"a": rng.integers(0, 3, 40), "b": rng.integers(0, 3, 25)}
    regions = {"a": rng.integers(0, 3, 40), "b": rng.integers(0, 2, 25)}
    n = 2000
    found = roi_enrichment(labels, regions, n, correction="holm")
    assert found.regions.tolist() == [1, 2]
    for k in range(3):
        for column, region in enumerate(found.regions):
            exact, overlap, size, mean = np.ones(1), 0, 0, 0.0
            for name in labels:
                inside, there = labels[name] == k, regions[name] == region
                law = hypergeom(len(inside), inside.sum(), there.sum())
                chance = law.pmf(np.arange(len(inside) + 1))
                exact = np.convolve(exact, chance)
                overlap += (inside & there).sum()
                size += inside.sum() + there.sum()
                mean += chance @ np.arange(len(chance))
            truth = exact[overlap:].sum()
            assert found.overlap[k, column] == overlap
            assert found.dice[k, column] == pytest.approx(2 * overlap / size)
            assert found.expected[k, column] == pytest.approx(mean)
            # Five deviations of a binomial share, and the +1 of the p-value.
            bound = 5 * np.sqrt(truth * (1 - truth) / n) + 1 / n
            assert abs(found.p[k, column] - truth) < bound
    np.testing.assert_array_equal(found.adjusted_p, corrected(found.p, "holm"))


def test_enrichment_finds_what_is_planted(planted):
    found = roi_enrichment(planted[1], {n: v + 1 for n, v in planted[1].items()}, 200)
    assert (found.adjusted_p < 0.05).tolist() == np.eye(3, dtype=bool).tolist()
    np.testing.assert_array_equal(found.dice, np.eye(3))
    with pytest.raises(ValueError, match="at least one region"):
        roi_enrichment(planted[1], {n: 0 * v for n, v in planted[1].items()})


def test_subjects_sizes_alone_enrich_nothing():
    """Cluster and region both live in one subject: chance within that subject explains it."""
    labels = {"a": np.zeros(20, int), "b": np.ones(20, int)}
    regions = {"a": np.ones(20, int), "b": np.zeros(20, int)}
    assert roi_enrichment(labels, regions, 20).p[0, 0] == 1


def test_null_p_values_are_uniform():
    """200 tests of unrelated data: enrichment's p is never too small, preference's is uniform."""
    rng = np.random.default_rng(0)
    enrichment, preference = [], []
    for seed in range(200):
        labels, regions = ({"a": rng.integers(0, 2, 60)} for _ in range(2))
        enrichment.append(roi_enrichment(labels, regions, 39, seed).p[0, 0])
        bears = (rng.permutation(40) < 15)[:, None]
        preference.append(label_preference(rng.normal(size=(40, 1)), bears, 39, seed).p[0, 0])
    # p lies on a grid of 40: spread within its step, an exact p is uniform on (0, 1).
    spread = np.array(preference) - rng.uniform(size=200) / 40
    assert kstest(spread, "uniform").pvalue > 1e-3
    # Ties of counts can only make it larger; five deviations of a binomial count.
    for level in (0.05, 0.2, 0.5):
        bound = 200 * level + 5 * np.sqrt(200 * level * (1 - level))
        assert np.count_nonzero(np.array(enrichment) <= level) <= bound
    assert np.mean(enrichment) < 0.7


def test_compactness_by_hand():
    triangles = grid(3)
    assert len(mesh_edges(triangles)) == 16  # 6 + 6 along the grid and 4 diagonals
    labels = np.array([0, 0, 0, 1, 1, 1, 0, 0, 0])
    found = spatial_compactness(labels, np.arange(9), np.zeros(9, int), triangles, 50)
    assert found.n_edges == 16
    assert found.same == 6 / 16
    assert found.n_patches.tolist() == [2, 1]
    np.testing.assert_allclose(found.largest_patch, [0.5, 1])
    # Only vertices 0, 1, 4 of the left and 8 of the right, in any order: edges 0-1 and 1-4.
    part = spatial_compactness([2, 0, 2, 2], [4, 8, 1, 0], [0, 1, 0, 0], triangles, 5)
    assert (part.n_edges, part.same, part.p) == (2, 1, 1)
    assert part.n_patches.tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="vertex 9 is not in the mesh"):
        spatial_compactness([0, 0], [0, 9], [0, 0], triangles)
    with pytest.raises(ValueError, match="comes twice"):
        spatial_compactness([0, 0], [1, 1], [0, 0], triangles)
    with pytest.raises(ValueError, match="no two voxels"):
        spatial_compactness([0, 0], [0, 1], [0, 1], triangles)
    with pytest.raises(ValueError, match="hemisphere holds 2"):
        spatial_compactness([0, 0], [0, 1], [0, 2], triangles)
    with pytest.raises(ValueError, match="the same numbers"):
        spatial_compactness([0], [0, 1], [0, 0], triangles)
    with pytest.raises(ValueError, match="triangles"):
        mesh_edges(np.zeros((3, 2), int))


def test_compactness_tells_patches_from_noise():
    vertex, sides = np.tile(np.arange(100), 2), np.repeat([0, 1], 100)
    patches = (vertex % 10 >= 5).astype(int)
    found = spatial_compactness(patches, vertex, sides, grid(10), 99)
    assert found.p == 0.01
    assert found.same > found.control.max()
    # Two equal halves: two ends share a label with chance 49 / 99, by counting pairs.
    assert found.control.mean() == pytest.approx(49 / 99, abs=0.03)
    noise = np.random.default_rng(0).permutation(patches)
    assert spatial_compactness(noise, vertex, sides, grid(10), 99).p > 0.05


def test_responses_use_training_images_alone():
    betas = np.array([[1, 3, 0], [2, 4, 9], [3, 8, 1], [99, 99, 99]], float)
    split = ["train", "train", "train", "test"]
    first = subject("a", betas, [2, 5, 6, 7], split)
    second = subject("b", betas[:3, :1] * -1, [1, 5, 8], ["train"] * 3)
    labels = {"a": np.array([0, 0, 2]), "b": np.array([0])}
    found = cluster_responses(labels, [first, second])
    assert found.image_id.tolist() == [1, 2, 5, 6, 8]
    z = np.array([2, 3, 5.5])
    z = (z - z.mean()) / z.std()
    other = np.array([1, 0, -1]) / np.sqrt(2 / 3)
    expected = [other[0], z[0], (z[1] + other[1]) / 2, z[2], other[2]]
    np.testing.assert_allclose(found.response[:, 0], expected)
    assert np.isnan(found.response[:, 1]).all()
    image, value = found.top(4)
    assert image[0].tolist() == [6, 1, 5, 2]
    assert image[1].tolist() == [-1] * 4
    assert image[2].tolist() == [5, 6, 2, -1]
    np.testing.assert_allclose(value[0, 0], z[2])
    with pytest.raises(ValueError, match="n_images is 6"):
        found.top(6)
    with pytest.raises(ValueError, match="not of the 1 voxels of b"):
        cluster_responses({"a": labels["a"]}, [first, second])


def test_preferred_labels_are_found():
    rng = np.random.default_rng(0)
    bears = rng.random((80, 3)) < 0.4
    response = np.stack([2.0 * bears[:, 1], np.zeros(80), np.full(80, np.nan)], axis=1)
    response += rng.normal(size=(80, 3))
    found = label_preference(response, bears, 199, correction="holm")
    truth = response[bears[:, 1], 0].mean() - response[~bears[:, 1], 0].mean()
    assert found.difference[0, 1] == pytest.approx(truth)
    assert (found.adjusted_p < 0.05)[:2].tolist() == [[False, True, False], [False] * 3]
    assert np.isnan(found.p[2]).all()
    assert label_preference(np.ones((80, 1)), bears, 9).p.min() == 1  # ties count against
    with pytest.raises(ValueError, match="on some images"):
        label_preference(response, np.ones((80, 1), bool))
    with pytest.raises(ValueError, match="image_labels int64"):
        label_preference(response, bears.astype(int))


def test_baselines_find_their_own_structure(planted):
    embeddings, truth = planted
    clusters = kmeans_clusters(embeddings, K, seed=0)
    assert agreement(clusters, truth).adjusted_rand == 1
    np.testing.assert_array_equal(
        clusters.assign(embeddings["subj02"], embeddings)[0], clusters.labels_of("subj02")
    )
    where = {name: 50.0 * np.eye(3)[labels] for name, labels in truth.items()}
    assert agreement(coordinate_clusters(where, K, 0), truth).adjusted_rand == 1
    with pytest.raises(ValueError, match="181 clusters of 180 voxels"):
        coordinate_clusters(where, 181, 0)
    with pytest.raises(ValueError, match="expected finite"):
        coordinate_clusters({"a": np.zeros((2, 2))}, 1, 0)


def test_homogeneity_prefers_the_grouping_that_made_the_responses():
    rng = np.random.default_rng(0)
    groups, wrong = np.repeat([0, 1, 3], [4, 4, 1]), np.tile([0, 1, 2], 3)
    signal = rng.normal(size=(30, 4))
    betas = signal[:, groups] + 0.5 * rng.normal(size=(30, 9))
    data = subject("a", betas, np.arange(30), ["train"] * 10 + ["test"] * 20)
    found = homogeneity({"a": groups}, [data])
    test = data.betas[10:].astype(float)
    expected = np.corrcoef(test[:, 0], test[:, 1:4].mean(axis=1))[0, 1]
    assert found.voxel["a"][0] == pytest.approx(expected)
    assert np.isnan(found.voxel["a"][8])
    assert np.isnan(found.cluster[2:]).all()
    assert found.cluster[0] == pytest.approx(found.voxel["a"][:4].mean())
    assert found.mean == pytest.approx(found.voxel["a"][:8].mean())
    assert found.mean > homogeneity({"a": wrong}, [data]).mean + 0.3


def test_results_are_json(planted):
    found = composition(planted[1], {name: 0 * v for name, v in planted[1].items()})
    text = json.dumps(jsonable(found), allow_nan=False)
    assert json.loads(text)["counts"] == found.counts.tolist()
    assert jsonable({"a": (np.float32(1), np.nan, None)}) == {"a": [1.0, None, None]}
    with pytest.raises(TypeError, match="cannot write set"):
        jsonable({1})
