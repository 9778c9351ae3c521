"""Activation checkpointing of the cross-transformer: the same numbers from less that is kept."""

from __future__ import annotations

import pytest
import torch
from small_model import CONFIG, activations, gradients, make_model
from torch import Tensor, nn

from brainit_bit import freeze_for_adaptation
from brainit_bit.cross_transformer import CrossTransformer


@pytest.mark.parametrize("adaptation", [False, True])
def test_same_outputs_and_gradients(adaptation: bool) -> None:
    results = []
    for enabled in (False, True):
        model = make_model(torch.float64)
        model.gradient_checkpointing_enable(enabled)
        if adaptation:
            freeze_for_adaptation(model, "subj01")
        output = model(activations(dtype=torch.float64), "subj01", return_attention=True)
        output.features.square().sum().backward()
        results.append((output, gradients(model)))
    (plain, expected), (lean, ours) = results
    # The same operations on the same numbers; only sums of gradients may come in another order.
    torch.testing.assert_close(lean, plain, rtol=0, atol=0)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    assert len(ours) == 1 if adaptation else len(ours) > 30


def kept(transformer: CrossTransformer, queries: Tensor, tokens: Tensor) -> int:
    """Bytes that the backward pass keeps: saved tensors and what enters blocks, no parameters."""
    storages, weights = {}, {one.data_ptr() for one in transformer.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage
        return tensor

    def keep_inputs(_: nn.Module, inputs: tuple[object, ...]) -> None:
        for one in inputs:
            if isinstance(one, Tensor):
                keep(one)

    blocks = [*transformer.blocks, *transformer.cross_blocks]
    handles = [block.register_forward_pre_hook(keep_inputs) for block in blocks]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        transformer(queries, tokens)
    for handle in handles:
        handle.remove()
    return sum(storage.nbytes() for storage in storages.values())


def test_keeps_only_what_enters_blocks() -> None:
    model = make_model()
    queries, tokens = torch.randn(3, 10, 16), torch.randn(3, 6, 16)
    plain = kept(model.cross_transformer, queries, tokens)
    model.gradient_checkpointing_enable()
    lean = kept(model.cross_transformer, queries, tokens)
    # Query tokens into three cross blocks and the last linear, brain tokens into three rounds.
    entries = (CONFIG.n_rounds + 2) * queries.numel() + (CONFIG.n_rounds + 1) * tokens.numel()
    assert lean == 4 * entries
    assert lean < plain / 5
    model.gradient_checkpointing_enable(False)
    assert kept(model.cross_transformer, queries, tokens) == plain
