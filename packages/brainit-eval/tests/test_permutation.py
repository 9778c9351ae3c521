from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from brainit_eval.statistics import attainable_p, holm, sign_flip_test, subject_test


def test_few_images_give_the_exact_p_of_scipy() -> None:
    values = np.random.default_rng(0).normal(0.4, 1, size=10)
    found = sign_flip_test({"a": values}, {"a": np.arange(10)})
    truth = stats.permutation_test(
        (values, np.zeros(10)),
        lambda a, b, axis: (a - b).mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert found.exact
    assert found.p == pytest.approx(truth.pvalue, abs=1e-12)
    assert found.difference == pytest.approx(values.mean(), abs=1e-12)
    assert found.smallest == 2 / 2**10


def test_drawn_signs_come_near_the_exact_p() -> None:
    values = np.random.default_rng(1).normal(0.5, 1, size=12)
    ids = {"a": np.arange(12)}
    exact = sign_flip_test({"a": values}, ids).p
    drawn = sign_flip_test({"a": values}, ids, n_permutations=4000)
    assert not drawn.exact
    # Four standard errors of a share, and the one that is added above and below.
    assert drawn.p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 4000) + 1 / 4001)
    assert drawn.smallest == 1 / 4001
    clear = sign_flip_test({"a": np.ones(200)}, {"a": np.arange(200)}, n_permutations=99)
    assert clear.p == 1 / 100  # no drawn pattern is as extreme; p is never 0
    assert drawn == sign_flip_test({"a": values}, ids, n_permutations=4000)


def test_subjects_are_means_of_equal_weight_and_flip_within_themselves() -> None:
    gaps = {"a": [0.3, -0.1], "b": [0.2, 0.5, 0.4]}  # other images, so every sign is on its own
    found = sign_flip_test(gaps, {"a": [1, 2], "b": [3, 4, 5]})
    sums = [
        abs(np.mean([np.dot(signs[:2], gaps["a"]) / 2, np.dot(signs[2:], gaps["b"]) / 3]))
        for signs in product([1, -1], repeat=5)
    ]
    assert found.difference == pytest.approx(0.5 * (0.1 + 1.1 / 3))
    assert found.p == np.mean(np.array(sums) >= found.difference - 1e-12)


def test_shared_images_flip_for_all_subjects_at_once_whatever_their_order() -> None:
    gaps = {"a": [0.3, -0.1, 0.2], "b": [0.4, 0.5, 0.1]}
    found = sign_flip_test(gaps, {"a": ["x", "y", "z"], "b": ["z", "x", "y"]})
    joint = sign_flip_test({"m": [0.4, 0.0, 0.3]}, {"m": ["x", "y", "z"]})
    assert found.smallest == 2 / 2**3
    assert found.p == joint.p
    assert found.difference == pytest.approx(joint.difference)


def test_without_a_difference_p_is_uniform_even_if_subjects_share_the_images_quirks() -> None:
    generator = np.random.default_rng(2)
    ids = {name: np.arange(20) for name in "abcd"}
    p_values = []
    for _ in range(300):
        quirk = generator.normal(size=20)  # what suits one method suits it in every subject
        gaps = {name: quirk + 0.5 * generator.normal(size=20) for name in ids}
        p_values.append(sign_flip_test(gaps, ids, n_permutations=199).p)
    rate = np.mean(np.array(p_values) <= 0.05)
    assert rate == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 300))
    apart = {name: np.arange(20) + 20 * k for k, name in enumerate(ids)}
    # Flipped subject by subject the same data would be found different far too often.
    assert sign_flip_test(gaps, apart, n_permutations=199).smallest == 1 / 200


def test_what_few_subjects_can_show() -> None:
    assert attainable_p(4) == 1 / 16
    assert attainable_p(4, two_sided=True) == 1 / 8
    assert subject_test([5.0, 4, 3, 9]).p == 1 / 8 == subject_test([5.0, 4, 3, 9]).smallest
    assert subject_test([0.5]).p == 1
    assert subject_test(np.ones(30)).p < 1e-4
    with pytest.raises(ValueError, match="1 or more"):
        attainable_p(0)


def test_holm_equals_its_definition_and_statsmodels() -> None:
    p = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}
    assert holm(p) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert list(holm(p)) == list(p)
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        holm({"a": float("nan")})
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    truth = multitest.multipletests(list(p.values()), method="holm")[1]
    np.testing.assert_allclose(list(holm(p).values()), truth, rtol=1e-12)


@pytest.mark.parametrize(
    ("gaps", "ids", "message"),
    [
        ({"a": [0.1, np.nan]}, {"a": [1, 2]}, "finite"),
        ({"a": [0.1, 0.2]}, {"a": [1, 1]}, "once"),
        ({"a": [0.1, 0.2]}, {"a": [1]}, r"\[n\]"),
        ({"a": [0.1]}, {"b": [1]}, "same subjects"),
        ({}, {}, "same subjects"),
    ],
)
def test_bad_input_is_refused(gaps, ids, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sign_flip_test(gaps, ids)
