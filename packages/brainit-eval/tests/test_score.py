from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from brainit_eval import Scorer, derangement, named, pixcorr, score_images, shuffled, ssim, two_way


def pictures(n: int, seed: int) -> Tensor:
    return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


class Network:
    """Pixels as features, and a count of the images that it saw."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        self.seen += len(images)
        return {"early": images.flatten(1), "late": images.mean((2, 3))}


@pytest.fixture
def truth() -> dict[str, Tensor]:
    return {"subj01": pictures(14, 0), "subj02": pictures(14, 0)}


@pytest.fixture
def images(truth) -> dict[str, Tensor]:
    return {s: (0.3 * x + 0.7 * pictures(14, k + 1)) for k, (s, x) in enumerate(truth.items())}


def test_table_is_the_mean_over_subjects_of_the_metrics(truth, images) -> None:
    scores = score_images(images, truth, [Network()], n_bootstrap=50)
    assert list(scores.table) == ["pixcorr", "ssim", "two_way_early", "two_way_late"]
    late = [two_way(images[s].mean((2, 3)), truth[s].mean((2, 3))).value for s in truth]
    expected = {
        "pixcorr": np.mean([pixcorr(images[s], truth[s]).mean() for s in truth]),
        "ssim": np.mean([ssim(images[s], truth[s]).double().mean() for s in truth]),
        "two_way_late": np.mean(late),
    }
    for name, value in expected.items():
        assert scores.table[name].value == pytest.approx(value, abs=1e-12)
        assert scores.table[name].low < value < scores.table[name].high
    assert scores.per_subject["subj02"]["two_way_late"] == pytest.approx(late[1])


def test_forms_of_the_results(truth, images) -> None:
    scores = score_images(images, truth, [named("clip", lambda x: x.flatten(1))], n_bootstrap=20)
    assert set(scores.as_dict()["two_way_clip"]) == {"value", "low", "high", "higher_is_better"}
    rows = list(scores.rows())
    assert len(rows) == 28
    assert list(rows[0]) == ["subject", "image_id", "pixcorr", "ssim", "two_way_clip"]
    assert np.mean([row["pixcorr"] for row in rows]) == pytest.approx(scores.table["pixcorr"].value)


def test_truth_passes_the_network_once_for_all_subjects_and_methods(truth, images) -> None:
    network = Network()
    scorer = Scorer(truth, [network], n_bootstrap=5, batch_size=4)
    assert network.seen == 14
    features = scorer.features(images)
    scorer.score(images, features)
    scorer.score(images, features, shuffled(images, 0))
    assert network.seen == 14 + 28


def test_perfect_images_score_one_and_shuffled_ones_chance(truth) -> None:
    scorer = Scorer(truth, [Network()], n_bootstrap=20)
    perfect = scorer.score(truth)
    values = [score.value for score in perfect.table.values()]
    assert values == pytest.approx([1.0] * 4, abs=1e-6)
    control = [scorer.score(truth, pairing=shuffled(truth, seed)) for seed in range(20)]
    values = [scores.table["two_way_early"].value for scores in control]
    # Uniform ranks 1 to 13 of 13: 0.46 +- 0.29 / sqrt(14) per set; 40 sets, four standard errors.
    assert np.mean(values) == pytest.approx(6 / 13, abs=4 * 0.29 / np.sqrt(14 * 40))
    assert abs(np.mean([scores.table["pixcorr"].value for scores in control])) < 0.05


def test_pairing_moves_images_and_features_alike(truth, images) -> None:
    scorer = Scorer(truth, [Network()], n_bootstrap=5)
    order = shuffled(images, 3)
    moved = {subject: values[order[subject]] for subject, values in images.items()}
    assert scorer.score(images, pairing=order).table == scorer.score(moved).table


def test_the_batch_size_and_the_order_of_the_images_change_nothing(truth, images) -> None:
    whole = Scorer(truth, [Network()], n_bootstrap=5).score(images)
    parts = Scorer(truth, [Network()], n_bootstrap=5, batch_size=3).score(images)
    assert parts.table == whole.table
    order = torch.randperm(14, generator=torch.Generator().manual_seed(0))
    turned = Scorer(
        {s: x[order] for s, x in truth.items()},
        [Network()],
        image_ids=dict.fromkeys(truth, order.numpy()),
        n_bootstrap=5,
    ).score({s: x[order] for s, x in images.items()})
    for name, score in whole.table.items():
        for key in ("value", "low", "high"):
            assert getattr(turned.table[name], key) == pytest.approx(getattr(score, key))


def test_shuffled_moves_every_image_by_a_seeded_derangement() -> None:
    sets = {"a": torch.zeros(6, 1), "b": torch.zeros(6, 1)}
    first, again, other = shuffled(sets, 1), shuffled(sets, 1), shuffled(sets, 2)
    for order in (*first.values(), *other.values()):
        assert sorted(order.tolist()) == list(range(6))
        assert (order != torch.arange(6)).all()
    assert all(torch.equal(first[s], again[s]) for s in sets)
    assert not torch.equal(first["a"], first["b"]) or not torch.equal(first["a"], other["a"])


def test_derangements_are_uniform() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [tuple(derangement(4, generator).tolist()) for _ in range(1800)]
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(counts) == 9  # all derangements of four
    assert np.sum((counts - 200) ** 2 / 200) < 26.1  # chi-square, 8 degrees, p = 0.001
    with pytest.raises(ValueError, match="2 items"):
        derangement(1, generator)


def test_wrong_inputs_give_one_clear_line(truth, images) -> None:
    scorer = Scorer(truth, [], n_bootstrap=5)
    with pytest.raises(ValueError, match="expected subjects subj01, subj02"):
        scorer.score({"subj01": images["subj01"]})
    with pytest.raises(ValueError, match="images of subj02: expected the truth's shape"):
        scorer.score({"subj01": images["subj01"], "subj02": images["subj02"][:5]})
    with pytest.raises(ValueError, match="image_ids of subj01: expected 14"):
        Scorer(truth, [], image_ids={subject: [1, 2] for subject in truth})
    with pytest.raises(ValueError, match="one subject or more"):
        Scorer({}, [])
