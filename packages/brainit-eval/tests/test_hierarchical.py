from __future__ import annotations

import numpy as np
import pytest

from brainit_eval import bootstrap_mean, bootstrap_two_way, draw_weights, percentile_interval
from brainit_eval.statistics import hierarchical_mean, hierarchical_two_way


def simulate(generator, subjects: int, images: int, samples: int, sd: tuple[float, float, float]):
    """Scores with a spread of subjects, images and samples around a true mean of 0."""
    people, pictures, draws = sd
    return {
        f"s{k}": people * generator.normal()
        + pictures * generator.normal(size=images)
        + draws * generator.normal(size=(samples, images))
        for k in range(subjects)
    }


def apart(values) -> dict[str, np.ndarray]:
    return {name: np.arange(v.shape[-1]) + 1000 * k for k, (name, v) in enumerate(values.items())}


@pytest.mark.parametrize(
    ("subjects", "images", "samples", "sd"),
    [
        (15, 10, 2, (1.0, 1.0, 0.5)),  # all levels count
        (15, 10, 2, (0.0, 1.0, 0.0)),
    ],
)
def test_intervals_over_all_levels_cover_the_truth(subjects, images, samples, sd) -> None:
    generator = np.random.default_rng(0)
    trials, inside = 300, 0
    for trial in range(trials):
        values = simulate(generator, subjects, images, samples, sd)
        draws = hierarchical_mean(values, apart(values), n_bootstrap=200, seed=trial)
        low, high = percentile_interval(draws[None])
        inside += low <= 0 <= high
    # Nested levels are counted on top of the spread of subjects, which is on the safe side; with
    # 15 subjects and 200 draws the loss is at most 3 points. Four standard errors of the share.
    assert inside / trials > 0.92 - 4 * np.sqrt(0.05 * 0.95 / trials)


def test_leaving_out_the_subjects_level_does_not_cover_other_people() -> None:
    generator = np.random.default_rng(1)
    inside = 0
    for trial in range(100):
        values = simulate(generator, 15, 10, 2, (1.0, 0.5, 0.5))
        draws = hierarchical_mean(
            values, apart(values), levels=("images", "samples"), n_bootstrap=200, seed=trial
        )
        low, high = percentile_interval(draws[None])
        inside += low <= 0 <= high
    assert inside < 75


@pytest.mark.parametrize("level", ["subjects", "images", "samples"])
def test_each_level_has_the_variance_of_its_own_resampling(level: str) -> None:
    generator = np.random.default_rng(2)
    values = {name: generator.normal(size=(4, 6)) for name in "abc"}
    draws = hierarchical_mean(values, apart(values), levels=[level], n_bootstrap=20_000)
    table = np.stack(list(values.values()))  # [subjects, samples, images]
    truth = {
        "subjects": table.mean((1, 2)).var() / 3,
        "images": table.mean(1).var(1).mean() / 6 / 3,
        "samples": table.var(1).mean() / 4 / 6 / 3,
    }[level]
    # The variance of 20,000 draws has a relative standard error of 0.01; four of them.
    assert draws.var() == pytest.approx(truth, rel=0.04)
    assert draws.mean() == pytest.approx(table.mean(), abs=4 * np.sqrt(truth / 20_000))


def test_images_alone_are_the_joint_bootstrap() -> None:
    generator = np.random.default_rng(3)
    ids = {"a": np.arange(12), "b": np.arange(12)[::-1]}
    values = {name: generator.normal(size=(2, 12)) for name in ids}
    draws = hierarchical_mean(values, ids, levels=["images"], n_bootstrap=50, seed=7)
    weights = draw_weights(ids, 50, 7)
    truth = np.mean([bootstrap_mean(values[s].mean(0), weights[s]) for s in ids], axis=0)
    np.testing.assert_allclose(draws, truth, rtol=0, atol=1e-12)
    success = {name: generator.random((1, 12, 12)) < 0.7 for name in ids}
    for table in success.values():
        table[0][np.diag_indices(12)] = False
    draws = hierarchical_two_way(success, ids, levels=["images"], n_bootstrap=50, seed=7)
    truth = np.mean([bootstrap_two_way(success[s][0], weights[s]) for s in ids], axis=0)
    np.testing.assert_allclose(draws, truth, rtol=0, atol=1e-12)


def test_two_way_of_drawn_samples_equals_explicit_resampling() -> None:
    generator = np.random.default_rng(4)
    success = generator.random((3, 8, 8)) < 0.6
    success[:, np.arange(8), np.arange(8)] = False
    found = hierarchical_two_way({"a": success}, {"a": np.arange(8)}, n_bootstrap=20_000)
    explicit = []
    for _ in range(1500):
        images = generator.integers(0, 8, 8)
        wins = []
        for j in images:  # each drawn reconstruction has samples of its own
            samples, others = generator.integers(0, 3, 3), images[images != j]
            wins.extend(success[samples[:, None], others, j].mean(0))
        explicit.append(np.mean(wins))
    spread = np.std(explicit)
    # Standard errors of a mean and of a standard deviation of 1,500 draws; four of each.
    assert found.mean() == pytest.approx(np.mean(explicit), abs=4 * spread / np.sqrt(1500))
    assert found.std() == pytest.approx(spread, rel=4 / np.sqrt(2 * 1500))
    alone = hierarchical_two_way({"a": success}, {"a": np.arange(8)}, levels=[], n_bootstrap=2)
    off = ~np.eye(8, dtype=bool)
    np.testing.assert_allclose(alone, success[:, off].mean(), rtol=0, atol=1e-12)


def test_bad_input_is_refused() -> None:
    good = {"a": np.ones((2, 3))}
    with pytest.raises(ValueError, match="levels"):
        hierarchical_mean(good, {"a": [1, 2, 3]}, levels=["sessions"])
    with pytest.raises(ValueError, match="subjects a"):
        hierarchical_mean(good, {"b": [1, 2, 3]})
    with pytest.raises(ValueError, match="expected 3"):
        hierarchical_mean(good, {"a": [1, 2]})
    with pytest.raises(ValueError, match=r"\[samples, n\]"):
        hierarchical_mean({"a": np.ones(3)}, {"a": [1, 2, 3]})
    with pytest.raises(ValueError, match=r"\[samples, n, n\]"):
        hierarchical_two_way(good, {"a": [1, 2, 3]})
