"""Batches whose samples come from different subjects."""

from __future__ import annotations

import pytest
import torch
from small_model import VOXELS, activations, gradients, make_model
from torch import Tensor

from brainit_bit import draw_voxels

# Grouped, rows 0, 3, 1, 2, 4: an order that differs from the way back.
NAMES = ["subj02", "subj01", "subj01", "subj02", "subj01"]


def samples() -> tuple[list[Tensor], list[Tensor]]:
    """Activations and multiplicities, one a sample."""
    generator = torch.Generator().manual_seed(3)
    sizes = [VOXELS[name] for name in NAMES]
    x = [torch.randn(n, generator=generator, dtype=torch.float64) for n in sizes]
    return x, [draw_voxels(n, 20, 1, generator)[0] for n in sizes]


def test_equals_each_sample_alone() -> None:
    model = make_model(torch.float64)
    x, drawn = samples()
    queries = torch.randint(10, (5, 4), generator=torch.Generator().manual_seed(4))
    weight = torch.randn(5, 4, 5, dtype=torch.float64)

    together = model(x, NAMES, drawn, queries, return_attention=True)
    (together.features * weight).sum().backward()
    ours = {name: one.clone() for name, one in gradients(model).items()}
    model.zero_grad()
    for i, name in enumerate(NAMES):
        rows = (one[i : i + 1] for one in (queries, weight))
        alone = model(x[i][None], name, drawn[i][None], next(rows), return_attention=True)
        (alone.features * next(rows)).sum().backward()
        # Other sums of the same fp64 numbers, of order one to a hundred.
        close = {"rtol": 1e-11, "atol": 1e-11}
        torch.testing.assert_close(together.features[i : i + 1], alone.features, **close)
        for one, other in zip(together.attention, alone.attention, strict=True):
            torch.testing.assert_close(one[i : i + 1], other, **close)
    torch.testing.assert_close(ours, gradients(model), rtol=1e-10, atol=1e-10)


def test_each_subject_is_tokenised_once_and_all_are_read_together() -> None:
    model, calls = make_model(torch.float64), []
    for part in (model.tokenizer, model.cross_transformer):
        part.register_forward_hook(lambda module, *_: calls.append(type(module).__name__))
    model(samples()[0], NAMES)
    assert calls == ["BrainTokenizer", "BrainTokenizer", "CrossTransformer"]


def test_rows_of_a_tensor_are_samples_too() -> None:
    model, x = make_model(), activations()
    mixed = model(x, ["subj01"] * 3, torch.ones(3, 40)).features
    assert torch.equal(mixed, model(x, "subj01", torch.ones(3, 40)).features)


def test_subjects_of_no_sample_get_no_gradient() -> None:
    model = make_model()
    model(activations(), ["subj01"] * 3).features.sum().backward()
    assert model.voxels("subj01").embedding.grad is not None
    assert model.voxels("subj02").embedding.grad is None


def test_batches_that_do_not_fit() -> None:
    model = make_model(torch.float64)
    x, drawn = samples()
    spoilt = [*x[:4], x[4] * torch.nan]
    for wrong, names, keywords, message in (
        (x, NAMES[:4], {}, r"a sample, got \[4, 5\]"),
        ([], [], {}, r"got \[0, 0\]"),
        (x, NAMES, {"multiplicity": drawn[:4]}, r"got \[5, 5, 4\]"),
        (x[::-1], NAMES, {}, r"activations of 'subj02'\[0\]: expected \[25\], got \[40\]"),
        (x, NAMES, {"multiplicity": drawn[::-1]}, r"multiplicity of 'subj02'\[0\]: expected \[25"),
        (spoilt, NAMES, {}, "activations of 'subj01': 40 values are NaN"),
        (x, [*NAMES[:4], "subj07"], {}, "unknown subject 'subj07'"),
        (x, NAMES, {"queries": torch.zeros(3, 2, dtype=torch.int64)}, "expected 5 rows"),
    ):
        with pytest.raises(ValueError, match=message):
            model(wrong, names, **keywords)
