"""The schedule and Euler's method against formulas in float64."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from brainit_diffusion.sampler import draw_start, sample
from brainit_diffusion.schedule import euler_scheduler, euler_timesteps, sigma_table

# Diffusers multiplies up to 1,000 float32 factors, each rounded by 2^-24, or 6e-8. A relative error
# of the product grows by 1 / (2 (1 - a)) in sigma: 600 times after one factor, not after many.
SIGMA_TOLERANCE = 5e-5


def sigmas_in_float64() -> np.ndarray:
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    kept = np.cumprod(1 - betas)
    return np.sqrt((1 - kept) / kept)


def test_sigma_table_is_the_formula() -> None:
    np.testing.assert_allclose(sigma_table(), sigmas_in_float64(), rtol=SIGMA_TOLERANCE)


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 38, 1000])
def test_euler_sigmas_are_the_definition(steps: int) -> None:
    scheduler: Any = euler_scheduler()
    scheduler.set_timesteps(timesteps=euler_timesteps(steps))
    times = np.linspace(999, 0, steps, endpoint=False).astype(int)
    expected = sigmas_in_float64()[times]
    assert scheduler.timesteps.tolist() == times.tolist()
    np.testing.assert_allclose(scheduler.sigmas[:-1], expected, rtol=SIGMA_TOLERANCE)
    assert scheduler.sigmas[-1] == 0
    assert scheduler.sigmas.dtype == torch.float32
    start = float(scheduler.init_noise_sigma)
    assert start == pytest.approx(np.sqrt(1 + expected[0] ** 2), rel=SIGMA_TOLERANCE)


def test_known_steps_of_38() -> None:
    # The published setting, by hand: 999 * (1 - k / 38), truncated.
    times = euler_timesteps(38)
    assert times[:4] == [999, 972, 946, 920]
    assert (times[14], times[-1]) == (630, 26)


@pytest.mark.parametrize("steps", [0, 1001])
def test_steps_out_of_range(steps: int) -> None:
    with pytest.raises(ValueError, match="1 to 1000"):
        euler_timesteps(steps)


class Linear:
    """A denoiser with a known answer: slope times its input, plus the mean of the tokens."""

    def __init__(self, slope: float) -> None:
        self.slope = slope

    def __call__(self, x: torch.Tensor, step: Any, **conditions: Any) -> tuple[torch.Tensor]:
        return (
            self.slope * x + conditions["encoder_hidden_states"].mean((1, 2))[:, None, None, None],
        )


def run_euler(unet: Any, guidance: float, start_step: int = 0, steps: int = 6) -> Any:
    scheduler: Any = euler_scheduler()
    scheduler.set_timesteps(timesteps=euler_timesteps(steps))
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(2, 4, 3, 3, generator=generator)
    tokens, empty = torch.randn(2, 2, 5, 6, generator=generator)
    result = sample(
        unet, scheduler, latents, tokens, empty, torch.zeros(2, 4), guidance, start_step
    )
    return SimpleNamespace(latents=latents, tokens=tokens, empty=empty, result=result)


@pytest.mark.parametrize(("guidance", "start_step"), [(1.0, 0), (5.0, 0), (3.0, 2)])
def test_euler_with_guidance_of_a_linear_denoiser(guidance: float, start_step: int) -> None:
    run = run_euler(Linear(0.4), guidance, start_step)
    sigmas = np.append(sigmas_in_float64()[euler_timesteps(6)], 0)
    x = run.latents.double().numpy()
    with_tokens, without = (t.double().mean((1, 2)).numpy() for t in (run.tokens, run.empty))
    shift = (without + guidance * (with_tokens - without)).reshape(-1, 1, 1, 1)
    for now, after in zip(sigmas[start_step:-1], sigmas[start_step + 1 :], strict=True):
        x = x + (after - now) * (0.4 * x / np.sqrt(1 + now**2) + shift)
    # Values reach some 30, times the sigmas' relative tolerance.
    np.testing.assert_allclose(run.result, x, rtol=SIGMA_TOLERANCE, atol=30 * SIGMA_TOLERANCE)


class GaussianData:
    """The exact noise prediction if latents are normal with a mean and a standard deviation."""

    def __init__(self, mean: float, deviation: float) -> None:
        self.mean, self.variance, self.sigmas = mean, deviation**2, sigma_table()

    def __call__(self, x: torch.Tensor, step: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
        sigma = self.sigmas[int(step)]
        exploding = x * torch.sqrt(1 + sigma**2)
        return (sigma * (exploding - self.mean) / (self.variance + sigma**2),)


def test_gaussian_data_come_out_with_their_mean_and_variance() -> None:
    scheduler: Any = euler_scheduler()
    scheduler.set_timesteps(timesteps=euler_timesteps(1000))
    noise, empty = draw_start(range(8), (4, 40, 40), (1, 1), 0.0)
    start = noise * scheduler.init_noise_sigma
    x = sample(GaussianData(1.5, 0.6), scheduler, start, empty, empty, torch.zeros(8, 4), 1.0)
    # The exact flow scales the distance to the mean by 0.6 / sqrt(0.6^2 + 14.6^2), and the start
    # noise lies around 0: 1.5 * 0.6 / 14.6 is missing at the end. The sample's errors are
    # 0.6 / sqrt(51200) = 0.003; Euler's own, of first order, stays below 1 % with 1,000 steps.
    assert x.mean().item() == pytest.approx(1.5 * (1 - 0.6 / 14.63), abs=0.015)
    assert x.std().item() == pytest.approx(0.6, rel=0.02)


def test_draws_depend_on_the_seed_alone() -> None:
    noise, empty = draw_start([4, 5, 6], (4, 8, 8), (3, 7), 0.04)
    for row, seed in enumerate([4, 5, 6]):
        alone = draw_start([seed], (4, 8, 8), (3, 7), 0.04)
        assert torch.equal(noise[row], alone[0][0])
        assert torch.equal(empty[row], alone[1][0])
    assert not torch.equal(noise[0], noise[1])
    assert noise.dtype == torch.float32


def test_noise_offset_is_per_image_and_channel() -> None:
    plain, _ = draw_start(range(200), (4, 5, 5), (1, 1), 0.0)
    shifted, _ = draw_start(range(200), (4, 5, 5), (1, 1), 0.04)
    offset = shifted - plain
    # Constant over positions up to float32's rounding of numbers below 8.
    assert (offset - offset.mean((2, 3), keepdim=True)).abs().max() < 1e-6
    # 800 offsets: the standard error of their deviation is 0.04 / sqrt(1600) = 0.001.
    assert offset[:, :, 0, 0].std().item() == pytest.approx(0.04, abs=0.004)
