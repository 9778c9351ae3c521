"""The schedule, and samplings with denoisers of a known answer, against formulas in float64."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from brainit_diffusion.sampler import draw_start
from brainit_diffusion.schedule import (
    SDXL_NOISE,
    euler_scheduler,
    euler_timesteps,
    few_step_scheduler,
    set_timesteps,
    sigma_table,
)

# Diffusers multiplies up to 1,000 float32 factors, each rounded by 2^-24, or 6e-8. A relative error
# of the product grows by 1 / (2 (1 - a)) in sigma: 600 times after one factor, not after many.
SIGMA_TOLERANCE = 5e-5


@cache
def sigmas_in_float64() -> np.ndarray:
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    kept = np.cumprod(1 - betas)
    return np.sqrt((1 - kept) / kept)


def sigmas_of(steps: int) -> np.ndarray:
    return np.append(sigmas_in_float64()[euler_timesteps(steps)], 0)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_sigma_table_is_the_formula() -> None:
    np.testing.assert_allclose(sigma_table(), sigmas_in_float64(), rtol=SIGMA_TOLERANCE)


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 38, 1000])
def test_euler_sigmas_are_the_definition(steps: int) -> None:
    scheduler: Any = euler_scheduler()
    set_timesteps(scheduler, steps)
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


def test_other_schedulers_keep_their_own_steps() -> None:
    for kind, options in (
        (diffusers.DDIMScheduler, {}),
        (diffusers.EulerDiscreteScheduler, {"use_karras_sigmas": True}),
    ):
        ours, theirs = (kind(**SDXL_NOISE, **options) for _ in range(2))
        set_timesteps(ours, 10)
        theirs.set_timesteps(10)
        assert ours.timesteps.tolist() == theirs.timesteps.tolist()


@pytest.mark.parametrize("steps", [0, 1001])
def test_steps_out_of_range(steps: int) -> None:
    with pytest.raises(ValueError, match="1 to 1000"):
        euler_timesteps(steps)


@pytest.mark.parametrize(("guidance", "steps"), [(1.0, 6), (5.0, 6), (3.0, 1)])
def test_euler_with_guidance_of_a_linear_denoiser(
    known: Any, tokens: torch.Tensor, guidance: float, steps: int
) -> None:
    pipeline = known(lambda x, _, context: 0.4 * x + context.mean((1, 2))[:, None, None, None])
    latents = pipeline(
        tokens,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=generators(4, 5, 6),
        output_type="latent",
    ).images
    noise, empty = draw_start(generators(4, 5, 6), (4, 3, 3), (5, 12), 0.04)
    sigmas = sigmas_of(steps)
    x = noise.double().numpy() * np.sqrt(1 + sigmas[0] ** 2)
    with_tokens, without = (t.double().mean((1, 2)).numpy() for t in (tokens, empty))
    shift = (without + guidance * (with_tokens - without)).reshape(-1, 1, 1, 1)
    for now, after in pairwise(sigmas):
        x = x + (after - now) * (0.4 * x / np.sqrt(1 + now**2) + shift)
    # Values reach some 50 on the way, times the sigmas' relative tolerance.
    np.testing.assert_allclose(latents, x, rtol=SIGMA_TOLERANCE, atol=50 * SIGMA_TOLERANCE)


def test_start_from_an_image_is_its_latent_plus_sigma_noise(
    known: Any, tokens: torch.Tensor, coarse: torch.Tensor
) -> None:
    seen: list[torch.Tensor] = []
    pipeline = known(lambda x, *_: seen.append(x) or torch.zeros_like(x), size=8)
    options = {"start_step": 14, "guidance_scale": 1.0, "generator": generators(4, 5, 6)}
    pipeline(tokens, coarse, **options)
    # The VAE's factor is 0.7 here, and 0.13025 in SDXL.
    clean = 0.7 * pipeline.vae.encode(2 * coarse - 1).latent_dist.mean.detach().double()
    noise, _ = draw_start(generators(4, 5, 6), (4, 8, 8), (5, 12), 0.04)
    sigma = sigmas_in_float64()[630]
    first = (clean + sigma * noise.double()) / np.sqrt(1 + sigma**2)
    assert len(seen) == 38 - 14
    # Float32 rounding of a tiny VAE.
    np.testing.assert_allclose(seen[0], first, atol=1e-5 + SIGMA_TOLERANCE)


MEAN, DEVIATION = 1.5, 0.6


def gaussian(x: torch.Tensor, step: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """The exact noise prediction if latents are normal with this mean and deviation."""
    sigma = float(np.interp(float(step), np.arange(1000), sigmas_in_float64()))
    return sigma * (x * np.sqrt(1 + sigma**2) - MEAN) / (DEVIATION**2 + sigma**2)


def ratio_bound(steps: int) -> float:
    """How far off, relatively, Euler's method may be on `gaussian`.

    The exact flow scales the distance to the mean as g = sqrt(s^2 + sigma^2). A step of h errs by
    at most h^2 / 2 times g'' = s^2 / g^3 at its lower end; relative errors add up.
    """
    sigmas = sigmas_of(steps)
    below = DEVIATION**2 + sigmas[1:] ** 2
    return float(np.expm1((np.diff(sigmas) ** 2 / 2 * DEVIATION**2 / below**2).sum()))


def gaussian_sample(known: Any, steps: int, **parts: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents [2, 4, 40, 40] of a sampling, and what the exact flow makes of the same noise."""
    latents = known(gaussian, 40, **parts)(
        torch.zeros(2, 1, 12),
        num_inference_steps=steps,
        guidance_scale=1.0,
        generator=generators(1, 2),
        output_type="latent",
    ).images
    noise, _ = draw_start(generators(1, 2), (4, 40, 40), (1, 12), 0.04)
    top = sigmas_in_float64()[999]
    start = noise.double() * np.sqrt(1 + top**2)
    return latents.double(), MEAN + (start - MEAN) * DEVIATION / np.sqrt(DEVIATION**2 + top**2)


# Of the mean and, relatively, of the deviation of 2 x 4 x 40 x 40 numbers: four standard errors.
COUNT = 2 * 4 * 40 * 40
MEAN_ERROR, DEVIATION_ERROR = 4 * DEVIATION / COUNT**0.5, 4 / (2 * COUNT) ** 0.5


def test_gaussian_data_come_out_with_their_mean_and_variance(known: Any) -> None:
    found, exact = gaussian_sample(known, 1000)
    bound = ratio_bound(1000)
    assert bound < 0.02
    # Float32 rounding of latents of some 15, 1,000 times.
    assert ((found - exact).abs() <= bound * (exact - MEAN).abs() + 1e-3).all()
    # The start noise lies around 0 and not around the mean: 0.6 / 14.6 of the mean is missing. Its
    # offsets add 0.04^2 to its variance, and 0.04 / sqrt(8) to the error of its mean.
    assert found.mean().item() == pytest.approx(
        MEAN * (1 - DEVIATION / 14.63), abs=MEAN_ERROR + 4 * DEVIATION * 0.04 / 8**0.5
    )
    assert found.std().item() == pytest.approx(DEVIATION, rel=bound + DEVIATION_ERROR)


@pytest.mark.parametrize(
    "kind",
    [
        "DDIMScheduler",
        "DDPMScheduler",
        "DPMSolverMultistepScheduler",
        "EulerAncestralDiscreteScheduler",
        "HeunDiscreteScheduler",
        "LMSDiscreteScheduler",
        "UniPCMultistepScheduler",
    ],
)
def test_other_schedulers_plug_in(known: Any, kind: str) -> None:
    scheduler = getattr(diffusers, kind)(**SDXL_NOISE, timestep_spacing="trailing")
    if hasattr(scheduler.config, "clip_sample"):
        scheduler.register_to_config(clip_sample=False)
    found, _ = gaussian_sample(known, 100, scheduler=scheduler)
    # None may be worse than Euler's bound at as many steps.
    bound = ratio_bound(100)
    assert found.mean().item() == pytest.approx(MEAN, abs=MEAN * bound + MEAN_ERROR)
    assert found.std().item() == pytest.approx(DEVIATION, rel=bound + DEVIATION_ERROR)


def test_few_steps_err_less_than_as_many_of_euler(known: Any) -> None:
    def error(steps: int, scheduler: Any) -> float:
        found, exact = gaussian_sample(known, steps, scheduler=scheduler)
        return (found - exact).square().mean().sqrt().item()

    few = [error(steps, few_step_scheduler()) for steps in (12, 24)]
    plain = [error(steps, euler_scheduler()) for steps in (12, 24)]
    assert few[0] < 0.7 * plain[0]
    assert few[1] < 0.6 * plain[1]


def test_draws_depend_on_the_generator_alone() -> None:
    noise, empty = draw_start(generators(4, 5, 6), (4, 8, 8), (3, 7), 0.04)
    for row, seed in enumerate([4, 5, 6]):
        generator = torch.Generator().manual_seed(seed)
        alone = torch.randn(4, 8, 8, generator=generator)
        alone = alone + 0.04 * torch.randn(4, 1, 1, generator=generator)
        assert torch.equal(noise[row], alone)
        assert torch.equal(empty[row], torch.randn(3, 7, generator=generator))
    assert noise.dtype == torch.float32


def test_noise_offset_is_per_image_and_channel() -> None:
    plain, _ = draw_start(generators(*range(200)), (4, 5, 5), (1, 1), 0.0)
    shifted, _ = draw_start(generators(*range(200)), (4, 5, 5), (1, 1), 0.04)
    offset = shifted - plain
    # Constant over positions up to float32's rounding of numbers below 8.
    assert (offset - offset.mean((2, 3), keepdim=True)).abs().max() < 1e-6
    # 800 offsets: the standard error of their deviation is 0.04 / sqrt(1600) = 0.001.
    assert offset[:, :, 0, 0].std().item() == pytest.approx(0.04, abs=0.004)
