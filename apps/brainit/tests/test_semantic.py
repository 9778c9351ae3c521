"""The semantic branch: tokens are learnt as differences from their mean, and come back whole."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from brainit.profile import load_profile
from brainit.stages.images_io import as_float
from brainit.stages.semantic import SemanticDecoder, store_tokens, token_moments
from brainit_bit import BITConfig, BrainInteractionTransformer


def test_moments_are_those_of_the_chosen_rows() -> None:
    """More rows than one part holds, against fp64 over all at once."""
    generator = torch.Generator().manual_seed(0)
    places = 5 * torch.randn(4, 6, generator=generator)
    tokens = (places + torch.randn(1_300, 4, 6, generator=generator)).half()
    rows = torch.randperm(1_300, generator=generator)[:1_100]
    mean, std = token_moments(tokens.__getitem__, rows)
    chosen = tokens[rows].double()
    # fp32 sums of a thousand values near 5: 1e-6 relative, with room.
    torch.testing.assert_close(mean.double(), chosen.mean(0), rtol=1e-5, atol=1e-5)
    about = (chosen - chosen.mean(0)).square().mean().sqrt()
    torch.testing.assert_close(std.double(), about, rtol=1e-5, atol=0)


class CountingClip:
    """Stands for a CLIP model that counts what it encodes."""

    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        self.encoded += len(images)
        return images.flatten(2).mT / 3


def test_tokens_are_stored_once_and_read_by_rows(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (300, 2, 2, 3), dtype=np.uint8)
    samples: Any = SimpleNamespace(images=pictures)
    run: Any = SimpleNamespace(
        path=tmp_path, profile=load_profile("tiny"), fingerprint=lambda *what: "0123456789abcdef"
    )
    clip: Any = CountingClip()
    tokens = store_tokens(run, samples, clip)
    expected = clip.encode(as_float(pictures)).half()
    rows = torch.tensor([299, 0, 255, 256, 0])
    assert torch.equal(tokens(rows), expected[rows])
    clip.encoded = 0
    assert torch.equal(store_tokens(run, samples, clip)(rows), expected[rows])
    assert clip.encoded == 0


def test_decoder_gives_tokens_in_their_own_units(tmp_path: Path) -> None:
    """What the transformer predicts is standardised; what the decoder gives is not."""
    torch.manual_seed(0)
    config = BITConfig(n_clusters=3, dim=8, n_heads=2, n_rounds=1, n_query_tokens=4, output_dim=6)
    model = BrainInteractionTransformer(config)
    model.add_subject("subj01", torch.tensor([0, 1, 2, 1, 0]))
    model.save_pretrained(tmp_path)
    mean, std = torch.randn(4, 6), torch.tensor(0.5)
    save_file({"mean": mean, "std": std}, tmp_path / "tokens.safetensors")
    betas = torch.randn(2, 5)
    tokens = SemanticDecoder(tmp_path)(betas, "subj01")
    with torch.no_grad():
        features = model.eval()(betas, "subj01").features
    torch.testing.assert_close(tokens, mean + 0.5 * features)
