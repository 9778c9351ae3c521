"""From noiseless responses to single-trial betas: scale, session gain, drift and noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainit.simulation.config import SimulationConfig

Floats = NDArray[np.float32]

NCSNR_SPREAD = 0.55
"""Standard deviation of log ncsnr over voxels: a tenth of them exceed 1 at a median of 0.5."""
SHARED_NOISE = 0.1
"""Fraction of a voxel's noise variance that it shares with other voxels of the same trial."""
N_SHARED_SOURCES = 8


@dataclass(frozen=True)
class Scale:
    """From responses in arbitrary units to percent signal change, voxel by voxel, each [n_voxels].

    Attributes:
        centre: Mean response to the images of the experiment.
        spread: Its standard deviation over them.
        mean: Mean percent signal change.
        amplitude: Its standard deviation over those images.
        noise_sd: Standard deviation of the trial noise in percent signal change.
    """

    centre: NDArray[np.floating[Any]]
    spread: NDArray[np.floating[Any]]
    mean: NDArray[np.floating[Any]]
    amplitude: NDArray[np.floating[Any]]
    noise_sd: NDArray[np.floating[Any]]

    def noiseless(self, responses: Floats) -> Floats:
        """Percent signal change of responses [n, n_voxels], without noise, gain or drift."""
        scaled = self.mean + self.amplitude * (responses - self.centre) / self.spread
        return np.asarray(scaled, np.float32)


@dataclass(frozen=True)
class Recording:
    """What a scanner measures of one subject.

    Attributes:
        betas: Percent signal change, float32 [n_trials, n_voxels], in the order of the experiment.
        noiseless: Percent signal change without noise, gain or drift, float32 [n_images, n_voxels].
        scale: Of the subject's voxels.
    """

    betas: Floats
    noiseless: Floats
    scale: Scale


def trial_order(config: SimulationConfig) -> NDArray[np.int64]:
    """Which of a subject's images comes when, the same for all subjects (NSD's ``masterordering``).

    Repeats of an image lie about ``n_trials / repeats`` trials apart.

    Args:
        config: The world.

    Returns:
        Positions 0..images_per_subject-1, int64 [n_trials]; the first ``shared_images`` positions
        are shared.
    """
    rng = np.random.default_rng([config.seed, 3])
    start = rng.permutation(config.images_per_subject) / config.images_per_subject
    times = start[None] / config.repeats + np.arange(config.repeats)[:, None] / config.repeats
    times = times + rng.uniform(0, 0.3 / config.repeats, times.shape)
    return np.argsort(times, axis=None, kind="stable") % config.images_per_subject


def record(
    responses: Floats, order: NDArray[np.int64], config: SimulationConfig, rng: np.random.Generator
) -> Recording:
    """Measure the responses of one subject.

    Args:
        responses: Noiseless responses in arbitrary units, float32 [n_images, n_voxels].
        order: Image of each trial, [n_trials].
        config: The world.
        rng: Draws scales and noise.

    Returns:
        The recording: every voxel has its own mean (about 1.5 %), amplitude and noise.
    """
    n_voxels = responses.shape[1]
    amplitude = 0.5 * np.exp(rng.normal(0, 0.35, n_voxels))
    mean = np.asarray(rng.normal(1.5, 0.4, n_voxels))
    spread = np.maximum(responses.std(0), 1e-6)
    noise_sd = amplitude / (config.ncsnr * np.exp(rng.normal(0, NCSNR_SPREAD, n_voxels)))
    scale = Scale(responses.mean(0), spread, mean, amplitude, noise_sd)
    noiseless = scale.noiseless(responses)
    betas = scan_sessions(noiseless[order], noise_sd, config.trials_per_session, rng)
    return Recording(betas, noiseless, scale)


def scan_sessions(
    noiseless: Floats,
    noise_sd: NDArray[np.floating[Any]],
    trials_each: int,
    rng: np.random.Generator,
) -> Floats:
    """Add what scanning adds: noise, partly shared among voxels, drift, and a session's gain.

    Args:
        noiseless: Percent signal change of each trial, [n_trials, n_voxels].
        noise_sd: [n_voxels].
        trials_each: Trials of a session.
        rng: Draws it all.

    Returns:
        float32 [n_trials, n_voxels].
    """
    n_voxels = noiseless.shape[1]
    loading = rng.normal(size=(N_SHARED_SOURCES, n_voxels))
    loading *= np.sqrt(SHARED_NOISE) / np.linalg.norm(loading, axis=0)
    betas = noiseless.copy()
    for start in range(0, len(betas), trials_each):
        own = rng.standard_normal((trials_each, n_voxels), np.float32)
        common = rng.normal(size=(trials_each, N_SHARED_SOURCES)) @ loading
        noise = np.sqrt(1 - SHARED_NOISE) * own + common
        trend = np.linspace(-1, 1, trials_each)[:, None] * rng.normal(0, 0.1, n_voxels)
        level = rng.normal(0, 0.2, n_voxels)
        session = betas[start : start + trials_each] + noise_sd * (noise + trend + level)
        betas[start : start + trials_each] = session * np.exp(rng.normal(0, 0.1))
    return betas


def noise_ceiling_snr(betas: Floats, order: NDArray[np.int64], trials_per_session: int) -> Floats:
    """NSD's ncsnr: signal over noise standard deviation of betas that are z-scored in each session.

    Args:
        betas: float32 [n_trials, n_voxels].
        order: Image of each trial, [n_trials]; every image equally often.
        trials_per_session: Length of a session.

    Returns:
        float32 [n_voxels]: sqrt(1 - noise variance, at least 0) over the noise standard deviation,
        whose variance is the mean over images of the variance among repeats.
    """
    sessions = betas.reshape(-1, trials_per_session, betas.shape[1])
    z = (sessions - sessions.mean(1, keepdims=True)) / sessions.std(1, keepdims=True)
    by_image = z.reshape(betas.shape)[np.argsort(order, kind="stable")]
    repeats = len(order) // (int(order.max()) + 1)
    groups = by_image.reshape(-1, repeats, betas.shape[1])
    noise = groups.var(1, ddof=1).mean(0)
    return np.asarray(np.sqrt(np.maximum(1 - noise, 0)) / np.sqrt(noise), np.float32)
