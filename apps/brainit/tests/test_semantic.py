"""The semantic branch: tokens are learnt as differences from their mean, and come back whole."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file

from brainit.stages.semantic import SemanticDecoder, token_moments
from brainit_bit import BITConfig, BrainInteractionTransformer


def test_moments_are_those_of_the_chosen_rows() -> None:
    """More rows than one part holds, against fp64 over all at once."""
    generator = torch.Generator().manual_seed(0)
    places = 5 * torch.randn(4, 6, generator=generator)
    tokens = (places + torch.randn(1_300, 4, 6, generator=generator)).half()
    rows = torch.randperm(1_300, generator=generator)[:1_100]
    mean, std = token_moments(tokens, rows)
    chosen = tokens[rows].double()
    # fp32 sums of a thousand values near 5: 1e-6 relative, with room.
    torch.testing.assert_close(mean.double(), chosen.mean(0), rtol=1e-5, atol=1e-5)
    about = (chosen - chosen.mean(0)).square().mean().sqrt()
    torch.testing.assert_close(std.double(), about, rtol=1e-5, atol=0)


def test_decoder_gives_tokens_in_their_own_units(tmp_path: Path) -> None:
    """What the transformer predicts is standardised; what the decoder gives is not."""
    torch.manual_seed(0)
    config = BITConfig(n_clusters=3, dim=8, n_heads=2, n_rounds=1, n_query_tokens=4, output_dim=6)
    model = BrainInteractionTransformer(config)
    model.add_subject("subj01", torch.tensor([0, 1, 2, 1, 0]))
    model.save_pretrained(tmp_path)
    run: Any = SimpleNamespace(base=None, output=lambda *_: tmp_path)
    mean, std = torch.randn(4, 6), torch.tensor(0.5)
    save_file({"mean": mean, "std": std}, tmp_path / "tokens.safetensors")
    betas = torch.randn(2, 5)
    tokens = SemanticDecoder.load(run).predict(betas, "subj01")
    with torch.no_grad():
        features = model.eval()(betas, "subj01").features
    torch.testing.assert_close(tokens, mean + 0.5 * features)
