"""Tiny random but real components, built once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch.profiler import ProfilerActivity, profile

from brainit_diffusion.pipeline import BrainITPipeline
from brainit_diffusion.schedule import euler_scheduler
from brainit_diffusion.unclip import UnCLIP

torch.set_num_threads(1)

TINY_UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (16, 32),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": (2, 4),
    "norm_num_groups": 8,
    "cross_attention_dim": 12,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 32,
}


def tiny_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=0.7,
    )


def tiny_unet(**changes: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(**TINY_UNET | changes)


def quiet(pipeline: BrainITPipeline) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def build_unet() -> Callable[[], UNet2DConditionModel]:
    return tiny_unet


@pytest.fixture(scope="session")
def unclip() -> UnCLIP:
    torch.manual_seed(0)
    return UnCLIP(tiny_vae(), tiny_unet())


@pytest.fixture
def pipeline(unclip: UnCLIP) -> Any:
    """A pipeline of its own over the shared parts: tests may change its scheduler."""
    return quiet(BrainITPipeline(unclip.vae, unclip.unet, euler_scheduler()))


@pytest.fixture
def fresh() -> Any:
    """A new pipeline with new random parts; `unet` changes the UNet's configuration."""

    def build(unet: dict[str, Any] | None = None, **parts: Any) -> Any:
        torch.manual_seed(0)
        parts = {"vae": tiny_vae(), "scheduler": euler_scheduler()} | parts
        return quiet(BrainITPipeline(unet=tiny_unet(**unet or {}), **parts))

    return build


@pytest.fixture
def known() -> Any:
    """A pipeline with a denoiser of a known answer in place of the network: `known(answer)`."""

    def build(answer: Any, size: int = 3, **parts: Any) -> Any:
        unet = KnownUNet(**TINY_UNET | {"sample_size": size})
        unet.answer = answer
        scheduler = parts.pop("scheduler", None) or euler_scheduler()
        return quiet(BrainITPipeline(tiny_vae(), unet, scheduler, **parts))

    return build


class KnownUNet(UNet2DConditionModel):
    """Called and configured like the real one: answer(noisy, timestep, tokens)."""

    answer: Any

    def forward(self, sample: Any, timestep: Any, encoder_hidden_states: Any, **_: Any) -> Any:
        return (self.answer(sample, timestep, encoder_hidden_states),)


@pytest.fixture(scope="session")
def tokens() -> torch.Tensor:
    return torch.randn(3, 5, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def coarse() -> torch.Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def measured() -> Callable[[Callable[[], Any]], int]:
    """Most bytes that a run held at once beyond what was there, as the allocator reports."""

    def measure(run: Callable[[], Any]) -> int:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            run()
        events = seen.profiler.kineto_results.events()
        held = peak = 0
        for event in sorted(
            (e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()
        ):
            held += event.nbytes()
            peak = max(peak, held)
        return peak

    return measure
