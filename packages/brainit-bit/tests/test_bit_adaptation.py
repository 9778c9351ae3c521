"""Adaptation to a new subject: where it starts, what moves, what the optimiser holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brainit_bit import (
    BITConfig,
    BrainInteractionTransformer,
    add_subject_like,
    freeze_for_adaptation,
    nearest_voxels,
)

CONFIG = BITConfig(n_clusters=6, dim=16, n_heads=4, n_rounds=2, n_query_tokens=10, output_dim=5)
SIZES = {"subj01": 40, "subj02": 25}


def make_model() -> BrainInteractionTransformer:
    torch.manual_seed(0)
    model = BrainInteractionTransformer(CONFIG)
    for name, size in SIZES.items():
        model.add_subject(name, torch.randint(0, 6, (size,)))
    return model


def features(n_voxels: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n_voxels, 7))


def known() -> dict[str, np.ndarray]:
    return {name: features(size, seed) for seed, (name, size) in enumerate(SIZES.items())}


def test_nearest_voxels_are_nearest_among_unit_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brainit_bit.adaptation._BLOCK", 4)
    new, old = features(30, 5) * 3, features(50, 6)
    ours, theirs = (x / np.sqrt((x**2).sum(1))[:, None] for x in (new, old))
    expected = ((ours[:, None] - theirs) ** 2).sum(2).argmin(1)
    assert nearest_voxels(new, old).tolist() == expected.tolist()


def test_a_voxel_starts_as_its_nearest_one() -> None:
    model, rows = make_model(), known()
    pairs = [("subj02", 24), ("subj01", 0), ("subj01", 39), ("subj02", 3)]
    like = np.stack([rows[name][voxel] * 2 for name, voxel in pairs])
    add_subject_like(model, "new", like, rows)
    new = model.voxels("new")
    for i, (name, voxel) in enumerate(pairs):
        old = model.voxels(name)
        assert new.labels[i] == old.labels[voxel]
        assert torch.equal(new.by_voxel()[i], old.by_voxel()[voxel])


def test_a_subject_like_another_gives_its_features() -> None:
    model, rows = make_model(), known()
    add_subject_like(model, "twin", rows["subj02"], rows)
    x = torch.randn(3, 25)
    assert torch.equal(model(x, "twin").features, model(x, "subj02").features)


def test_the_start_is_a_copy() -> None:
    model, rows = make_model(), known()
    add_subject_like(model, "twin", rows["subj02"], {"subj02": rows["subj02"]})
    before = model.voxels("subj02").by_voxel()
    with torch.no_grad():
        freeze_for_adaptation(model, "twin").add_(1)
    assert torch.equal(model.voxels("subj02").by_voxel(), before)


def test_only_new_rows_move_and_have_optimiser_state() -> None:
    model, rows = make_model(), known()
    model(torch.randn(2, 40), "subj01").features.sum().backward()  # earlier training
    add_subject_like(model, "new", features(12, 9), rows)
    embedding = freeze_for_adaptation(model, "new")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.AdamW([embedding], lr=1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        model(torch.randn(2, 12), "new").features.square().sum().backward()
        optimiser.step()
    grads = [name for name, one in model.named_parameters() if one.grad is not None]
    changed = [n for n, value in model.state_dict().items() if not torch.equal(value, before[n])]
    assert grads == changed == ["_voxels.new.embedding"]
    assert list(optimiser.state) == [embedding]
    # AdamW's step and two moments, each of the new rows alone.
    sizes = sorted(value.numel() for value in optimiser.state[embedding].values())
    assert sizes == [1, 12 * 16, 12 * 16]


def test_arrays_that_do_not_fit() -> None:
    model, rows = make_model(), known()
    new = features(4, 1)
    for features_of_new, known_rows, message in (
        (new, {"subj01": rows["subj02"]}, r"known\['subj01'\]: expected 40 rows, got 25"),
        (new, {"subj09": rows["subj02"]}, "unknown subject 'subj09'"),
        (new, {}, "at least one subject"),
        (new[:, :5], rows, "one width, got 5 and 7"),
        (new * 0, rows, "not zero"),
        (new * np.nan, rows, "finite"),
        (new[0], rows, r"expected \[voxels, features\]"),
    ):
        with pytest.raises(ValueError, match=message):
            add_subject_like(model, "new", features_of_new, known_rows)
    assert model.subjects == list(SIZES)
