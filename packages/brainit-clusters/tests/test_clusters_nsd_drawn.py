"""A few minutes of a subject: which trials are drawn, and that nothing else is learnt from."""

from __future__ import annotations

import brainit_clusters_nsd_files as nsd
import numpy as np
import pytest

from brainit_clusters import BrainDataset, NSDConfig, prepare_nsd
from brainit_clusters.data.nsd import trials_in
from brainit_clusters.data.nsd.design import Trials

SUBJECT = 2
# float16 keeps 11 bits: relative rounding 2^-11, on z-scores up to 4; float32 errors are far less.
HALF = 4 * 2.0**-11


def subject(tree, **settings):
    config = NSDConfig(image_size=16, validation_fraction=0.25, **settings)
    path = prepare_nsd(tree.root, tree.root / "dataset.h5", config, progress=False)
    with BrainDataset.open(path) as dataset:
        shown = set(np.concatenate([dataset.subject(s).image_id for s in dataset.subjects]))
        assert set(dataset.image_ids) == shown
        return dataset.subject(f"subj{SUBJECT:02d}")


def raw(tree):
    """Betas of the voxels of the mask in float64: [n_trials, n_voxels], and images shown."""
    masked = np.flatnonzero(nsd.MASK == 1)
    sides = [tree.betas[SUBJECT, side][masked] for side in ("lh", "rh")]
    return np.concatenate(sides).T.astype(float), tree.ids[SUBJECT - 1, tree.order - 1] - 1


@pytest.mark.parametrize("normalisation", ["published", "leak-free"])
def test_drawn_trials_are_z_scored_among_themselves_and_alone_learnt_from(tree, normalisation):
    whole = subject(tree, normalisation=normalisation)
    few = subject(tree, normalisation=normalisation, trials=10)
    values, shown = raw(tree)
    split = dict(zip(whole.image_id, whole.split, strict=True))
    own = (np.arange(18) < 10) & np.array([split[image] != "test" for image in shown])
    used = own & np.array([normalisation == "published" or split[i] == "train" for i in shown])
    z = np.full_like(values, np.nan)
    for session in (1, 2):
        now = session == nsd.SESSIONS
        sample = values[now & used]
        z[now & own] = (values[now & own] - sample.mean(0)) / sample.std(0)
    rows = few.split != "test"
    np.testing.assert_array_equal(few.image_id[rows], np.unique(shown[own]))
    for image, betas, repeats in zip(
        few.image_id[rows], few.betas[rows], few.repeats[rows], strict=True
    ):
        assert few.split[few.image_id == image] == split[image]
        assert repeats == (own & (shown == image)).sum()
        # Two trials may be all that a z-score comes from: a small deviation magnifies rounding.
        np.testing.assert_allclose(betas, z[own & (shown == image)].mean(0), rtol=1e-2, atol=HALF)


def test_test_images_are_as_without_the_limit(tree):
    whole, few = subject(tree), subject(tree, trials=8)
    for field in ("image_id", "repeats", "betas"):
        same = (getattr(data, field)[data.rows("test")] for data in (whole, few))
        np.testing.assert_array_equal(*same)


def test_what_was_not_drawn_leaves_no_trace(tree):
    """Other betas in the trials that were not drawn: the same rows to learn from."""
    before = subject(tree, trials=8)
    for (_, _), values in tree.betas.items():
        values[:, 8:] += np.random.default_rng(0).normal(0, 5, values[:, 8:].shape)
    tree.write_betas()
    after = subject(tree, trials=8)
    learnt = before.split != "test"
    np.testing.assert_array_equal(before.betas[learnt], after.betas[learnt])
    assert not np.array_equal(before.betas[~learnt], after.betas[~learnt])


def test_random_draws_are_whole_sessions_but_the_last(tree):
    session = np.repeat([1, 2, 3, 4], 10)
    trials = Trials(session, np.arange(40), np.arange(40))
    np.testing.assert_array_equal(np.flatnonzero(trials.drawn(13, "first", [0])), np.arange(13))
    draws = [trials.drawn(13, "random", [seed]) for seed in range(20)]
    counts = [sorted(np.bincount(session[chosen], minlength=5))[-3:] for chosen in draws]
    assert counts == [[0, 3, 10]] * 20
    assert len({tuple(np.flatnonzero(chosen)) for chosen in draws}) == 20
    np.testing.assert_array_equal(draws[0], trials.drawn(13, "random", [0]))


def test_a_draw_is_refused_that_cannot_be(tree):
    with pytest.raises(ValueError, match=r"responses.tsv: 19 trials to draw, there are 18"):
        subject(tree, trials=19)
    for wrong in ({"trials": 0}, {"trials": 5, "draw": "last"}):
        with pytest.raises(ValueError, match="expected"):
            NSDConfig(**wrong)


def test_minutes_are_those_of_nsds_runs():
    """Twelve runs of five minutes with 750 trials."""
    assert [trials_in(minutes) for minutes in (60, 15, 30, 0.08)] == [750, 188, 375, 1]
    with pytest.raises(ValueError, match="minutes are 0"):
        trials_in(0)
