from __future__ import annotations

from collections import Counter
from itertools import product

import pytest

from brainit_eval.human.trials import CATCH, plan_trials

IDS = [str(number) for number in range(30)]
SUBJECTS = ["subj01", "subj02", "subj05", "subj07"]


def asked(trials):
    return [trial for trial in trials if trial.comparison != CATCH]


@pytest.mark.parametrize(
    ("mode", "methods", "n_cells"), [("random", ["a", "b"], 8), ("methods", ["a", "b", "c"], 12)]
)
@pytest.mark.parametrize("n_trials", [24, 37])
def test_pages_and_study_are_balanced(mode, methods, n_cells, n_trials) -> None:
    trials = plan_trials(mode, methods, SUBJECTS, IDS, pages=3, trials=n_trials, catch=5, seed=1)
    for page in (1, 2, 3, None):
        part = [trial for trial in trials if page in (None, trial.page)]
        cells = Counter((trial.comparison, trial.subject) for trial in asked(part))
        assert len(cells) == n_cells
        assert max(cells.values()) - min(cells.values()) <= 1
        assert len(part) - len(asked(part)) == (5 if page else 15)
    images = Counter(trial.image_id for trial in asked(trials))
    assert len(images) == len(IDS)
    assert max(images.values()) - min(images.values()) <= 1


def test_every_pair_of_cell_and_image_comes_once_before_one_comes_again() -> None:
    # 8 cells and 30 images have the common divisor 2: without the shift half would never come.
    trials = plan_trials("random", ["a", "b"], SUBJECTS, IDS, trials=240, catch=0)
    seen = Counter((trial.comparison, trial.subject, trial.image_id) for trial in trials)
    wanted = product(["a: own over random", "b: own over random"], SUBJECTS, IDS)
    assert seen == Counter(wanted)


def test_places_and_sides_are_complete_and_even() -> None:
    trials = plan_trials("methods", ["a", "b"], SUBJECTS, IDS, pages=2, trials=40, catch=8)
    for page in (1, 2):
        part = [trial for trial in trials if trial.page == page]
        assert [trial.place for trial in part] == list(range(48))
        for name in ("a over b", CATCH):
            sides = Counter(trial.side for trial in part if trial.comparison == name)
            assert sides["left"] == sides["right"]


def test_candidates_are_what_the_mode_says() -> None:
    for trial in plan_trials("random", ["a"], SUBJECTS, IDS, trials=60, catch=9):
        method = None if trial.comparison == CATCH else "a"
        assert trial.first.method == trial.second.method == method
        assert trial.first.image_id == trial.image_id != trial.second.image_id
    for trial in asked(plan_trials("methods", ["a", "b"], SUBJECTS, IDS)):
        assert (trial.first.method, trial.second.method) == ("a", "b")
        assert trial.first.image_id == trial.second.image_id == trial.image_id


def test_lures_are_drawn_from_all_other_images() -> None:
    trials = plan_trials("random", ["a"], ["s"], ["0", "1", "2", "3"], trials=800, catch=0)
    lures = Counter((trial.image_id, trial.second.image_id) for trial in trials)
    # 12 pairs, 200 / 3 each: 5 standard deviations of a binomial are 34.
    assert len(lures) == 12
    assert all(abs(count - 200 / 3) < 34 for count in lures.values())


def test_seed_decides_everything() -> None:
    def plan(seed: int) -> list:
        return plan_trials("random", ["a"], SUBJECTS, IDS, seed=seed)

    assert plan(0) == plan(0)
    assert plan(0) != plan(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "both"}, "mode"),
        ({"mode": "methods"}, "methods: expected 2"),
        ({"methods": ["a", "a"]}, "methods"),
        ({"image_ids": ["1"]}, "image_ids"),
        ({"subjects": []}, "subjects"),
        ({"trials": 0}, "trials"),
        ({"catch": -1}, "catch"),
    ],
)
def test_bad_plans_are_refused(change, message) -> None:
    good = {"mode": "random", "methods": ["a"], "subjects": ["s"], "image_ids": IDS}
    with pytest.raises(ValueError, match=message):
        plan_trials(**(good | change))
