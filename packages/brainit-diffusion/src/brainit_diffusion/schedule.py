"""The noise schedule: SDXL's discretised DDPM schedule, and the solvers that walk it.

The numbers are diffusers' own; this module only picks the steps. Euler's method writes a noisy
latent in the variance-exploding form, `latent + sigma * noise`; the network sees it over
`sqrt(1 + sigma^2)`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler
from torch import Tensor

TRAIN_STEPS = 1000
"""Number of noise levels that the UNet was trained on."""

SDXL_NOISE: dict[str, Any] = {
    "num_train_timesteps": TRAIN_STEPS,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}


def euler_timesteps(steps: int) -> list[int]:
    """Timesteps of a sampling: `linspace(999, 0, steps, endpoint=False)`, truncated to integers.

    Args:
        steps: Number of Euler steps, 1 to 1,000.

    Returns:
        Descending timesteps, from 999.

    Raises:
        ValueError: If `steps` is out of range.
    """
    if not 1 <= steps <= TRAIN_STEPS:
        raise ValueError(f"steps: expected 1 to {TRAIN_STEPS}, got {steps}")
    return [int(t) for t in np.linspace(TRAIN_STEPS - 1, 0, steps, endpoint=False)]


def euler_scheduler(prediction_type: str = "epsilon") -> EulerDiscreteScheduler:
    """Diffusers' Euler scheduler over SDXL's noise schedule (scaled-linear betas 0.00085 to 0.012).

    Its sigmas at `euler_timesteps` are `sqrt((1 - a) / a)` and a final 0, its start noise has the
    standard deviation `sqrt(1 + sigma_0^2)`, so that the network's first input has unit variance.

    Args:
        prediction_type: What the network predicts: "epsilon", the noise, as SDXL does, or
            "v_prediction" (Salimans and Ho, arXiv 2202.00512).
    """
    # "leading" only says how start noise is scaled here: the timesteps are always given.
    return EulerDiscreteScheduler(
        **SDXL_NOISE, timestep_spacing="leading", prediction_type=prediction_type
    )


def few_step_scheduler(prediction_type: str = "epsilon") -> DPMSolverMultistepScheduler:
    """A second-order solver, for 8 to 12 steps in place of Euler's 38.

    DPM-Solver++(2M) (arXiv 2211.01095) over the same noise schedule, its timesteps evenly spaced
    from the top as Euler's are here.

    Args:
        prediction_type: As in `euler_scheduler`; it must be what the UNet was trained to predict.
    """
    return DPMSolverMultistepScheduler(
        **SDXL_NOISE, timestep_spacing="trailing", prediction_type=prediction_type
    )


def set_timesteps(scheduler: Any, steps: int, device: torch.device | str | None = None) -> None:
    """Prepare a diffusers scheduler for a sampling of `steps` steps.

    A plain Euler scheduler gets `euler_timesteps`; any other one, and Euler's with other sigmas
    (Karras', exponential, beta), spaces its steps as its own configuration says.

    Raises:
        ValueError: If `steps` is out of range.
    """
    timesteps = euler_timesteps(steps)
    others = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
    euler = type(scheduler) is EulerDiscreteScheduler
    if euler and not any(scheduler.config[name] for name in others):
        scheduler.set_timesteps(timesteps=timesteps, device=device)
    else:
        scheduler.set_timesteps(steps, device=device)


def sigma_table() -> Tensor:
    """Sigma of every training timestep, ascending [1000] float32 (0.029 to 14.6)."""
    scheduler: Any = euler_scheduler()
    kept: Tensor = scheduler.alphas_cumprod
    return torch.sqrt((1 - kept) / kept)
