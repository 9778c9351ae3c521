"""The training objective against the forward process in float64, and the paper-size UNet."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from brainit_diffusion.objective import denoising_loss, vector_condition
from brainit_diffusion.unclip import UnCLIP
from brainit_diffusion.unet import unclip_unet_config

LATENTS = torch.randn(64, 4, 6, 6, generator=torch.Generator().manual_seed(5))
TOKENS = torch.ones(64, 5, 12)
TIME_IDS = vector_condition(64, (16, 16))


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(6)


class Oracle:
    """Solves the forward process for the noise, knowing the latents, and adds a known error."""

    def __init__(self, latents: torch.Tensor, error: float = 0.0) -> None:
        betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
        self.kept = torch.from_numpy(np.cumprod(1 - betas))
        self.latents, self.error = latents, error

    def __call__(
        self, noisy: torch.Tensor, steps: torch.Tensor, **conditions: Any
    ) -> tuple[torch.Tensor]:
        kept = self.kept[steps][:, None, None, None]
        self.tokens, self.steps = conditions["encoder_hidden_states"], steps
        self.noise = (noisy.double() - kept.sqrt() * self.latents) / (1 - kept).sqrt()
        return ((self.noise + self.error).float(),)


@pytest.mark.parametrize("error", [0.0, 0.5])
def test_value_for_a_known_error(error: float) -> None:
    loss = denoising_loss(Oracle(LATENTS, error), LATENTS, TOKENS, TIME_IDS, seeded())
    # Solving for the noise divides float32's rounding of a unit-size latent by sigma >= 0.029.
    assert loss.item() == pytest.approx(error**2, abs=1e-5)


class VelocityOracle(Oracle):
    """The same, answering with v; an error of the noise is one of v by sqrt(1 + sigma^2)."""

    def __call__(
        self, noisy: torch.Tensor, steps: torch.Tensor, **conditions: Any
    ) -> tuple[torch.Tensor]:
        super().__call__(noisy, steps, **conditions)
        kept = self.kept[steps][:, None, None, None]
        self.scale = kept.rsqrt()  # sqrt(1 + sigma^2)
        velocity = kept.sqrt() * self.noise - (1 - kept).sqrt() * self.latents
        return ((velocity + self.error * self.scale).float(),)


@pytest.mark.parametrize("error", [0.0, 0.5])
def test_velocity_weights_errors_of_the_noise(error: float) -> None:
    oracle = VelocityOracle(LATENTS, error)
    loss = denoising_loss(
        oracle, LATENTS, TOKENS, TIME_IDS, seeded(), prediction_type="v_prediction"
    )
    expected = float((error * oracle.scale).square().mean())
    assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)
    with pytest.raises(ValueError, match="expected epsilon or v_prediction"):
        denoising_loss(oracle, LATENTS, TOKENS, TIME_IDS, seeded(), prediction_type="sample")


def test_noise_has_the_offset_and_times_cover_the_schedule() -> None:
    large = torch.zeros(2000, 4, 4, 4)
    oracle = Oracle(large)
    denoising_loss(
        oracle, large, torch.zeros(2000, 1, 1), vector_condition(2000, (8, 8)), seeded(), 0.5
    )
    # Variance of a mean over 16 positions: 1 / 16 + 0.5^2; its standard error over 8,000 is 0.005.
    assert oracle.noise.mean((2, 3)).var().item() == pytest.approx(1 / 16 + 0.25, abs=0.02)
    assert oracle.steps.min() < 10
    assert oracle.steps.max() > 989


def test_dropped_tokens_are_random_normal() -> None:
    oracle, tokens = Oracle(LATENTS), TOKENS * 9
    denoising_loss(oracle, LATENTS, tokens, TIME_IDS, seeded(), dropout=0.5)
    dropped = (oracle.tokens != 9).flatten(1)
    assert torch.equal(dropped.any(1), dropped.all(1))
    # 64 draws at one half: 32 with a standard deviation of 4.
    assert 16 <= dropped.any(1).sum() <= 48
    replaced = oracle.tokens[dropped.any(1)]
    assert abs(replaced.mean()) < 0.1
    assert replaced.std().item() == pytest.approx(1, abs=0.1)
    denoising_loss(oracle, LATENTS, tokens, TIME_IDS, seeded())
    assert torch.equal(oracle.tokens, tokens)


def test_dropped_tokens_are_the_learned_ones_and_get_their_gradient() -> None:
    oracle, learned = Oracle(LATENTS), torch.randn(5, 12, generator=seeded()).requires_grad_()
    denoising_loss(oracle, LATENTS, TOKENS, TIME_IDS, seeded(), dropout=0.5, unconditional=learned)
    dropped = (oracle.tokens != 1).flatten(1).any(1)
    assert torch.equal(oracle.tokens[dropped], learned.expand(int(dropped.sum()), 5, 12))
    assert 16 <= dropped.sum() <= 48
    oracle.tokens.sum().backward()
    assert learned.grad is not None
    assert torch.equal(learned.grad, torch.full((5, 12), float(dropped.sum())))


def test_same_generator_same_loss_and_gradients_reach_the_tokens(unclip: UnCLIP) -> None:
    tokens = torch.randn(2, 5, 12, generator=seeded()).requires_grad_()
    latents = torch.randn(2, 4, 8, 8, generator=seeded())
    losses = [
        denoising_loss(unclip.unet, latents, tokens, TIME_IDS[:2], seeded()) for _ in range(2)
    ]
    assert losses[0] == losses[1]
    (gradient,) = torch.autograd.grad(losses[0], tokens)
    assert gradient.abs().sum() > 0


def test_vector_condition_reaches_the_unet(unclip: UnCLIP) -> None:
    condition = vector_condition(2, (96, 128), (3, 4))
    assert condition.tolist() == [[96, 128, 3, 4]] * 2
    latents = torch.randn(2, 4, 8, 8, generator=seeded())
    small, large = (
        denoising_loss(unclip.unet, latents, TOKENS[:2], vector_condition(2, size), seeded()).item()
        for size in ((16, 16), (768, 768))
    )
    assert small != large


def test_batches_must_fit() -> None:
    with pytest.raises(ValueError, match="64 latents"):
        denoising_loss(Oracle(LATENTS), LATENTS, TOKENS[:3], TIME_IDS, seeded())


def test_paper_size_unet() -> None:
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel(**unclip_unet_config())
    parameters = dict(unet.named_parameters())
    # SDXL's UNet has 2,567,463,684. Keys and values of its 70 transformer layers (10 of 640
    # channels, 60 of 1,280) read 1,664 instead of 2,048 values, and the vector condition
    # has 1,024 instead of 2,816.
    layers = 2 * (2048 - 1664) * (10 * 640 + 60 * 1280)
    vector = (2816 - 1024) * 1280
    assert sum(p.numel() for p in parameters.values()) == 2_567_463_684 - layers - vector
    keys = [p for name, p in parameters.items() if name.endswith("attn2.to_k.weight")]
    assert len(keys) == 70
    assert all(p.shape[1] == 1664 for p in keys)
    assert parameters["add_embedding.linear_1.weight"].shape == (1280, 1024)
