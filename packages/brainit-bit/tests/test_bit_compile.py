"""The whole model in one graph of `torch.compile`, for any batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_model import CONFIG, VOXELS, activations, gradients, make_model

from brainit_bit import draw_voxels

SMALL = replace(CONFIG, n_rounds=1)  # compiling is what takes the time


@pytest.mark.parametrize("precision", ["fp64", "bf16"])
def test_one_graph_serves_any_batch(precision: str) -> None:
    low = precision == "bf16"
    model = make_model(torch.float32 if low else torch.float64, SMALL)
    model.gradient_checkpointing_enable(low)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    # Some ten roundings in a row at 2^-9 each; in fp64 sums in another order.
    tolerance = 10 * 2**-9 if low else 1e-11
    for batch in (3, 5):
        generator = torch.Generator().manual_seed(batch)
        x = activations(dtype=model.query_tokens.dtype, batch=batch)
        drawn = draw_voxels(40, 30, batch, generator)
        queries = torch.randint(10, (batch, 4), generator=generator)
        results = []
        for form in (model, compiled):
            model.zero_grad()
            if form is compiled:
                for tensor in (x, drawn, queries):
                    torch._dynamo.mark_dynamic(tensor, 0)
            recompiles = torch._dynamo.config.patch(error_on_recompile=batch > 3)
            with recompiles, torch.autocast("cpu", torch.bfloat16, enabled=low):
                features = form(x, "subj01", drawn, queries).features
            features.double().square().sum().backward()
            results.append({"features": features.detach(), **gradients(model)})
        expected, ours = results
        assert ours.keys() == expected.keys()
        for name, truth in expected.items():
            assert (ours[name] - truth).norm() <= tolerance * truth.norm(), name


@pytest.mark.parametrize("case", ["shared queries", "maps", "mixed subjects"])
def test_other_arguments_stay_in_one_graph(case: str) -> None:
    model = make_model(config=SMALL)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    arguments = {
        "shared queries": (activations(), "subj01", None, torch.tensor([8, 1, 1])),
        "maps": (activations(), "subj01", None, None, True),
        "mixed subjects": ([activations(n)[0] for n in VOXELS.values()], list(VOXELS)),
    }[case]
    torch.testing.assert_close(compiled(*arguments), model(*arguments))


def test_a_graph_refuses_wrong_values_too() -> None:
    model, x, drawn = make_model(config=SMALL), activations(), torch.ones(3, 40)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    token = torch.tensor([9])
    compiled(x, "subj01", drawn, token)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for arguments, message in (
            ((x * torch.nan, "subj01", drawn, token), "activations of 'subj01': expected finite"),
            ((x, "subj01", -drawn, token), "multiplicity of 'subj01': expected finite numbers >="),
            ((x, "subj01", drawn, token + 1), r"queries: expected tokens in \[0, 10\)"),
            ((x, "subj01", drawn, token - 10), r"queries: expected tokens in \[0, 10\)"),
        ):
            with pytest.raises(RuntimeError, match=message):
                compiled(*arguments)
