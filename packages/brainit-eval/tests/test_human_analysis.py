from __future__ import annotations

import json

import numpy as np
import pytest

from brainit_eval.human.analysis import analyse, preference_interval
from brainit_eval.human.key import Key
from brainit_eval.human.trials import CATCH, plan_trials

IDS = [str(number) for number in range(40)]


def logistic(x):
    return 1 / (1 + np.exp(-x))


@pytest.fixture
def study(tmp_path):
    """A key of one page: 40 comparisons of two methods on two subjects, 10 catch trials."""
    trials = plan_trials("methods", ["a", "b"], ["s1", "s2"], IDS, trials=40, catch=10, seed=2)
    key = Key("0123456789abcdef", trials, {})
    key.write(tmp_path / "key.json")
    return key, tmp_path


def send(study, name, choose) -> str:
    """Write a rater's file; ``choose`` says which side a trial gets, or None for no answer."""
    key, folder = study
    answers = [
        {"place": trial.place, "side": side, "ms": 900}
        for trial in key.trials
        if (side := choose(trial))
    ]
    record = {"schema": 1, "study": key.study, "page": 1, "rater": name, "answers": answers}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(record))
    return str(path)


def other(side: str) -> str:
    return {"left": "right", "right": "left"}[side]


def rater(p: float, draw, habit: float = 0.0):
    """One who prefers ``a`` with chance ``p``, or just presses left with chance ``habit``."""

    def choose(trial) -> str:
        if trial.comparison == CATCH:
            return trial.side
        if draw.random() < habit:
            return "left"
        return trial.side if draw.random() < p else other(trial.side)

    return choose


def test_shares_and_counts_by_hand(study) -> None:
    files = [
        send(study, "always-a", lambda t: t.side),
        send(study, "s1-only", lambda t: t.side if t.subject in (None, "s1") else other(t.side)),
    ]
    result = analyse(files, study[1] / "key.json", n_bootstrap=200)
    shares = {p.subject: (p.share, p.n_answers, p.n_raters) for p in result.preferences}
    assert shares == {None: (0.75, 80, 2), "s1": (1.0, 40, 2), "s2": (0.5, 40, 2)}
    assert {p.comparison for p in result.preferences} == {"a over b"}


def test_raters_who_fail_catch_trials_are_left_out(study) -> None:
    catch = [trial.place for trial in study[0].trials if trial.comparison == CATCH]

    def wrong(n: int, silent: int = 0):
        def choose(trial):
            if trial.place in catch[:silent]:
                return None
            return other(trial.side) if trial.place in catch[silent : silent + n] else trial.side

        return choose

    files = [
        send(study, "good", wrong(2)),
        send(study, "bad", wrong(3)),
        send(study, "half-silent", wrong(2, silent=1)),
        send(study, "only-left", lambda t: "left"),
    ]
    result = analyse(files, study[1] / "key.json", n_bootstrap=200)
    assert {r.name: (r.catch_right, r.kept) for r in result.raters} == {
        "good": (8, True),
        "bad": (7, False),
        "half-silent": (7, False),
        "only-left": (5, False),
    }
    assert result.preferences[0].n_answers == 40


def test_a_known_preference_is_recovered(study) -> None:
    draw = np.random.default_rng(5)
    files = [send(study, f"r{k}", rater(0.7, draw)) for k in range(25)]
    whole = analyse(files, study[1] / "key.json").preferences[0]
    # 1,000 answers: 4 standard deviations of a binomial share are 0.058.
    assert abs(whole.share - 0.7) < 0.058
    assert whole.low < 0.7 < whole.high
    assert whole.low > 0.5


def test_a_habit_of_one_side_makes_no_preference(study) -> None:
    draw = np.random.default_rng(6)
    files = [send(study, f"r{k}", rater(0.5, draw, habit=0.8)) for k in range(25)]
    result = analyse(files, study[1] / "key.json")
    assert result.left_share > 0.85
    # Only every fifth answer is drawn: 4 sd of 200 of them, out of 1,000, are 0.028.
    assert abs(result.preferences[0].share - 0.5) < 0.028
    assert result.preferences[0].low < 0.5 < result.preferences[0].high


@pytest.mark.parametrize(
    ("raters", "images", "each", "sd_rater", "sd_image", "mean"),
    [(15, 30, 30, 0.8, 0.8, 0.4), (30, 300, 40, 0.0, 0.0, 0.0), (15, 200, 60, 0.5, 1.0, 2.5)],
)
def test_intervals_cover_the_truth(raters, images, each, sd_rater, sd_image, mean) -> None:
    spread = np.random.default_rng(0).normal(0, np.hypot(sd_rater, sd_image) + 1e-9, 10**6)
    truth = logistic(mean + spread).mean()
    draw = np.random.default_rng(1)
    hits = naive = 0
    for seed in range(150):
        who = np.repeat(np.arange(raters), each)
        what = np.concatenate([draw.permutation(images)[:each] for _ in range(raters)])
        p = logistic(mean + draw.normal(0, sd_rater, raters)[who]
                     + draw.normal(0, sd_image, images)[what])  # fmt: skip
        chosen = draw.random(len(p)) < p
        low, high = preference_interval(chosen, who, what, 300, seed)
        hits += low <= truth <= high
        naive += abs(chosen.mean() - truth) <= 1.96 * np.sqrt(chosen.var() / len(p))
    # 150 trials at 95 %: 3.5 binomial standard deviations are 9.3 hits.
    assert 142.5 - 9.3 <= hits <= 150
    if sd_rater > 0.6:  # where answers of a rater go together, a binomial interval claims too much
        assert naive < 0.8 * 150


def test_independent_answers_do_not_widen_the_interval() -> None:
    draw = np.random.default_rng(2)
    who, what = np.repeat(np.arange(50), 80), draw.integers(0, 1000, 4000)
    low, high = preference_interval(draw.random(4000) < 0.5, who, what, 4000, 0)
    binomial = 2 * 1.96 * np.sqrt(0.25 / 4000)
    # Both draws hold the scatter of single answers: adding them up would give a factor 1.41.
    assert 0.8 * binomial < high - low < 1.3 * binomial


def test_interval_where_all_agree() -> None:
    who = np.repeat(np.arange(10), 4)
    low, high = preference_interval(np.ones(40, bool), who, np.arange(40), 100, 0)
    assert high == 1.0
    assert low**10 == pytest.approx(0.025)  # all of 10 raters, as if each had answered once
    mirrored = preference_interval(np.zeros(40, bool), who, np.arange(40), 100, 0)
    assert mirrored == pytest.approx((0.0, 1 - low))
    one = preference_interval(np.arange(40) % 2 == 0, np.zeros(40), np.arange(40), 100, 0)
    assert np.isnan(one).all()


def test_same_seed_same_interval_whatever_the_order_of_files(study) -> None:
    draw = np.random.default_rng(7)
    files = [send(study, f"r{k}", rater(0.6, draw)) for k in range(5)]
    key = study[1] / "key.json"
    one, two = analyse(files, key), analyse(files[::-1], key)
    assert one.preferences == analyse(files, key).preferences
    assert {p.subject: (p.share, p.low, p.high) for p in one.preferences} == {
        p.subject: (p.share, p.low, p.high) for p in two.preferences
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"study": "another"}, "answers to study another"),
        ({"schema": 2}, "schema"),
        ({"page": 7}, "no page 7"),
        ({"rater": "<b>"}, "rater"),
        ({"answers": [{"place": 0, "side": "up", "ms": 1}]}, "side"),
        ({"answers": [{"place": 50, "side": "left", "ms": 1}]}, "place"),
        ({"answers": [{"place": 0, "side": "left", "ms": 1}] * 2}, "answered twice"),
        ({"answers": []}, "no answers left"),
    ],
)
def test_wrong_files_are_refused_in_one_line(study, change, message) -> None:
    path = send(study, "r", lambda t: t.side)
    with open(path) as file:
        record = json.load(file)
    with open(path, "w") as file:
        json.dump(record | change, file)
    with pytest.raises(ValueError, match=message) as caught:
        analyse([path], study[1] / "key.json")
    assert "\n" not in str(caught.value)


def test_the_same_answers_twice_are_refused(study) -> None:
    path = send(study, "r", lambda t: t.side)
    with pytest.raises(ValueError, match="rater r, page 1 is also in"):
        analyse([path, path], study[1] / "key.json")
