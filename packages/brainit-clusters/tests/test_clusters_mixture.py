"""The mixture against scikit-learn's, from the same starts, and scikit-learn's rules."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.mixture
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

from brainit_clusters.gaussians import BLOCK
from brainit_clusters.mixture import GaussianMixture

K, D = 5, 9
KINDS = ("full", "diag", "spherical")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def samples(spread):
    """More than one block, around K centres `spread` apart, with correlated features."""
    rng = np.random.default_rng(0)
    mixing = np.eye(D) + 0.3 * rng.normal(size=(K, D, D)) / D**0.5
    labels = rng.integers(0, K, BLOCK + 700)
    centres = spread * rng.normal(size=(K, D))
    noise = np.einsum("nd,nde->ne", rng.normal(size=(len(labels), D)), mixing[labels])
    return centres[labels] + noise


def both(values, dtype=np.float64, **options):
    options = {"n_components": K, "random_state": 3, "tol": 0, "max_iter": 8, **options}
    theirs = sklearn.mixture.GaussianMixture(**options).fit(values)
    return GaussianMixture(**options).fit(values.astype(dtype)), theirs


@parametrize_with_checks([GaussianMixture(covariance_type=kind) for kind in KINDS])
def test_it_is_an_estimator_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spread", [0.3, 20], ids=["soft", "hard"])
def test_it_equals_scikit_learns_in_float64(kind, spread):
    values = samples(spread)
    ours, theirs = both(values, covariance_type=kind)
    rows_with_one = (theirs.predict_proba(values).max(axis=1) > 1 - 1e-9).mean()
    assert rows_with_one < 0.1 if spread == 0.3 else rows_with_one == 1
    # The same sums in another order: some thousand roundings, grown by a few iterations.
    np.testing.assert_allclose(ours.lower_bounds_, theirs.lower_bounds_, rtol=1e-10)
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-8, atol=1e-9)
    np.testing.assert_array_equal(ours.predict(values), theirs.predict(values))
    np.testing.assert_allclose(ours.predict_proba(values), theirs.predict_proba(values), atol=1e-9)
    np.testing.assert_allclose(ours.score_samples(values), theirs.score_samples(values), rtol=1e-9)
    assert ours.score(values) == pytest.approx(theirs.score(values), rel=1e-10)
    assert ours.bic(values) == pytest.approx(theirs.bic(values), rel=1e-10)
    assert ours.aic(values) == pytest.approx(theirs.aic(values), rel=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spread", [0.3, 20], ids=["soft", "hard"])
def test_float32_reaches_the_same_likelihood(kind, spread):
    values = samples(spread).astype(np.float32).astype(np.float64)  # rounding them is not at issue
    ours, theirs = both(values, np.float32, covariance_type=kind)
    # The project's bound for float32 products. Likelihoods move more than that (soft).
    np.testing.assert_allclose(ours.lower_bounds_, theirs.lower_bounds_, rtol=1e-6)
    if spread == 0.3:
        assert theirs.lower_bounds_[-1] - theirs.lower_bounds_[0] > 1e-3 * abs(ours.lower_bound_)
    assert ours.precisions_cholesky_.dtype == (np.float32 if kind == "full" else np.float64)
    assert ours.covariances_.dtype == np.float64


def test_far_from_zero_float32_stays_exact():
    """Squares of the samples would have lost all digits of a covariance."""
    values = (samples(0.3) + 500).astype(np.float32).astype(np.float64)
    ours, theirs = both(values, np.float32)
    # Differences from rounded means: errors of 500 * 2^-24 in values that spread by about one.
    np.testing.assert_allclose(ours.lower_bounds_, theirs.lower_bounds_, rtol=500 * 2.0**-23)


@pytest.mark.parametrize("kind", KINDS)
def test_given_starts(kind):
    values = samples(0.3)
    rng = np.random.default_rng(1)
    factor = rng.normal(size=(K, D, D))
    precisions = {
        "full": factor @ factor.swapaxes(1, 2) / D + np.eye(D),
        "diag": rng.uniform(1, 3, (K, D)),
        "spherical": rng.uniform(1, 3, K),
    }[kind]
    given = {"weights_init": np.full(K, 1 / K), "means_init": values[:K]}
    for start in (given, {**given, "precisions_init": precisions}, {"means_init": values[:K]}):
        ours, theirs = both(values, covariance_type=kind, init_params="k-means++", **start)
        np.testing.assert_allclose(ours.lower_bounds_, theirs.lower_bounds_, rtol=1e-9)
        np.testing.assert_allclose(ours.means_, theirs.means_, rtol=1e-6, atol=1e-7)


def test_the_likeliest_of_several_starts_is_kept():
    values = samples(1.0)
    ours, theirs = both(values, n_init=3, init_params="k-means++", max_iter=5)
    assert ours.lower_bound_ == pytest.approx(theirs.lower_bound_, rel=1e-9)
    first, _ = both(values, n_init=1, init_params="k-means++", max_iter=5)
    assert ours.lower_bound_ > first.lower_bound_


def test_same_seed_same_fit(capsys):
    values = samples(0.3).astype(np.float32)
    fits = [
        GaussianMixture(K, random_state=0, max_iter=3, verbose=shown).fit(values)
        for shown in (0, 1)
    ]
    np.testing.assert_array_equal(fits[0].covariances_, fits[1].covariances_)
    assert "start 1 of 1" in capsys.readouterr().err


def test_it_says_whether_it_converged():
    values = samples(20)
    with pytest.warns(ConvergenceWarning, match="after 2 iterations"):
        GaussianMixture(K, tol=0, max_iter=2).fit(values)
    assert GaussianMixture(K, tol=0.1, random_state=0).fit(values).converged_


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"covariance_type": "tied"}, "covariance_type is 'tied'"),
        ({"init_params": "random"}, "init_params is 'random'"),
        ({"n_components": 0}, "n_components is 0, expected at least 1"),
        ({"reg_covar": -1}, "reg_covar is -1"),
        ({"means_init": np.zeros((2, D))}, r"means_init has shape \(2, 9\)"),
        ({"weights_init": np.ones(K)}, "weights_init must"),
        ({"precisions_init": -np.ones((K, D, D))}, "precisions_init must"),
        ({"init_params": "k-means++", "reg_covar": 0}, "component 0 is not positive definite"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(**{"n_components": K, **options}).fit(samples(1.0))
