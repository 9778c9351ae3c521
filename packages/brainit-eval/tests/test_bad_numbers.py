"""Every function with numbers that are none, too few, of another shape or kind.

Whatever comes, the answer is finite, or one line of ours that says what is wrong: no NaN goes on
unseen, there is no warning to be found in a log, and no other library is left to complain.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import brainit_eval as e
from brainit_eval import controls, detectors, statistics

N = 12
DRAWS = {"n_bootstrap": 5}


def tensor(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def array(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).random(shape)


IDS = np.arange(N)
PICTURES = [tensor(N, 3, 48, 48), tensor(N, 3, 48, 48).flip(0)]
FEATURES = [tensor(N, 7), tensor(N, 7).flip(0)]
SUCCESS = e.two_way(*FEATURES).success
TRIALS, TRIAL_IDS = array(3 * N, 5), np.repeat(IDS, 3)
ONES = np.ones((4, N))

CASES: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "pixcorr": (e.pixcorr, PICTURES),
    "ssim": (e.ssim, PICTURES),
    "ssim_columns": (e.ssim_columns, PICTURES),
    "score_images": (
        lambda a, b: e.score_images({"s": a}, {"s": b}, [], 5).per_image["s"]["ssim"],
        PICTURES,
    ),
    "correlation_distance": (e.correlation_distance, FEATURES),
    "two_way": (lambda a, b: e.two_way(a, b).per_image, FEATURES),
    "against": (lambda a, b, c: e.against(a, b, c).per_image, [*FEATURES, tensor(5, 7)]),
    "retrieve": (lambda a, b: e.retrieve(a, b).image_to_brain.per_image, FEATURES),
    "choose_rows": (lambda v: [k for k, _ in e.choose_rows(v, 3)], [array(N)]),
    "draw_weights": (lambda i: e.draw_weights({"s": i}, 4, 0)["s"], [IDS]),
    "bootstrap_mean": (lambda v: e.bootstrap_mean(v, ONES), [array(N)]),
    "bootstrap_two_way": (lambda s: e.bootstrap_two_way(s, ONES), [SUCCESS]),
    "hierarchical_mean": (
        lambda v, i: statistics.hierarchical_mean({"s": v}, {"s": i}, **DRAWS),
        [array(2, N), IDS],
    ),
    "hierarchical_two_way": (
        lambda s, i: statistics.hierarchical_two_way({"s": s}, {"s": i}, **DRAWS),
        [np.stack([SUCCESS, SUCCESS]), IDS],
    ),
    "sign_flip_test": (
        lambda v, i: statistics.sign_flip_test({"s": v}, {"s": i}, n_permutations=20).p,
        [array(N) - 0.5, IDS],
    ),
    "subject_test": (lambda v: statistics.subject_test(v).p, [array(N) - 0.5]),
    "brain_correlation": (
        lambda p, i, t, u: statistics.brain_correlation(p, i, t, u)["all"].value,
        [array(N, 5), IDS, TRIALS, TRIAL_IDS],
    ),
    "ncsnr": (statistics.ncsnr, [TRIALS, TRIAL_IDS]),
    "noise_ceiling": (statistics.noise_ceiling, [array(N), np.full(5, 3.0)]),
    "split_half": (
        lambda t, i: statistics.split_half(t, i, n_splits=3),
        [TRIALS, TRIAL_IDS],
    ),
    "spearman_brown": (lambda r: statistics.spearman_brown(r, 2), [array(N)]),
    "averages": (lambda t: [v for _, v in statistics.averages(t, 2)], [array(3, N, 2)]),
    "consistency": (
        lambda a, b: statistics.consistency([a, b], lambda x, y: x),
        [array(N), array(N)],
    ),
    "effect_of_repeats": (
        lambda a, b, i: [
            effect.value
            for effect in statistics.effect_of_repeats(
                {1: {"s": a}, 2: {"s": b}}, {"s": i}, **DRAWS
            )
        ],
        [array(3, N), array(3, N), IDS],
    ),
    "beats": (lambda a, b: controls.beats(a, b, "m", "n", **DRAWS).value, [array(N), array(N)]),
    "within_clusters": (
        lambda s, k: controls.within_clusters(s, k, **DRAWS).value,
        [SUCCESS, IDS % 3],
    ),
    "shuffled_brains": (lambda v: controls.shuffled_brains(v, 0)[0], [array(N, 5)]),
    "mean_brain": (controls.mean_brain, [array(N, 5)]),
    "noise_brain": (lambda v: controls.noise_brain(v, 0), [array(N, 5)]),
    "wrong_subject": (
        lambda v, w: controls.wrong_subject({"a": v, "b": w}, {"a": IDS, "b": IDS})["a"],
        [array(N, 5), array(N, 5)],
    ),
    "mean_images": (lambda t: controls.mean_images(t, 3), PICTURES[:1]),
    "grey_images": (controls.grey_images, PICTURES[:1]),
    "branch_agreement": (lambda a, b: detectors.branch_agreement(a, b, **DRAWS).value, PICTURES),
    "inversion_artefacts": (
        lambda a, b: detectors.inversion_artefacts(a, b, **DRAWS).value,
        PICTURES,
    ),
    "over_smoothness": (lambda a, b: detectors.over_smoothness(a, b, **DRAWS).value, PICTURES),
    "far_from_training": (
        lambda a, b: detectors.far_from_training(a, b, n_permutations=9, **DRAWS).value,
        [array(N), array(N)],
    ),
    "weak_categories": (
        lambda a, k: detectors.weak_categories(a, k, n_permutations=9, **DRAWS).value,
        [array(N), IDS % 3],
    ),
}


def spoilt(good: Any) -> dict[str, Any]:
    """A good argument in all the ways in which it may be bad."""
    flat = good.reshape(-1)
    bad = {
        "none": None,
        "text": np.array(["a"] * len(good)),
        "empty": good[:0],
        "one": good[:1],
        "one short": good[:-1],
        "a scalar": flat[0],
        "an axis more": good[None],
    }
    if str(good.dtype).removeprefix("torch.") not in ("float32", "float64"):
        return bad
    for name, value in (("a NaN", float("nan")), ("an infinity", float("inf")), ("huge", 1e30)):
        changed = good.clone() if isinstance(good, Tensor) else good.copy()
        changed.reshape(-1)[len(flat) // 2] = value
        bad[name] = changed
    scales = {"zeros": 0.0, "denormal": 1e-310, "all NaN": float("nan"), "complex": 1j}
    return bad | {name: good * scale for name, scale in scales.items()}


def outcome(function: Callable[..., Any], given: list[Any]) -> Any:
    """What it answers, or the error that a caller may expect; others, and warnings, fail."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return function(*given)
        except (TypeError, ValueError) as error:
            return error


@pytest.mark.parametrize("name", CASES)
def test_bad_numbers_give_one_clear_line_or_a_finite_answer(name) -> None:
    function, good = CASES[name]
    assert np.isfinite(np.asarray(function(*good), dtype=np.float64)).all()
    for place, argument in enumerate(good):
        for what, bad in spoilt(argument).items():
            given = [*good[:place], bad, *good[place + 1 :]]
            where = f"{name}, argument {place}: {what}"
            answer = outcome(function, given)
            if isinstance(answer, Exception):
                *_, frame = traceback.extract_tb(answer.__traceback__)
                assert "brainit_eval" in frame.filename, f"{where}: {answer}"
                assert "\n" not in str(answer), where
            else:
                assert np.isfinite(np.asarray(answer, dtype=np.float64)).all(), where
