"""`BrainITPipeline` with tiny random parts: diffusers' conventions, and what depends on what."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, HeunDiscreteScheduler

from brainit_diffusion.latents import encode_images
from brainit_diffusion.pipeline import BrainITPipeline
from brainit_diffusion.schedule import SDXL_NOISE, few_step_scheduler
from brainit_diffusion.unconditional import UnconditionalTokens

# Other batch sizes only reorder float32 sums (1e-7 relative each, some hundred layers and steps).
BATCH_TOLERANCE = 1e-4


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def images(pipeline: Any, tokens: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
    settings: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 2.0}
    settings |= {"generator": generators(7, 8, 9)[: len(tokens)], "output_type": "pt"} | options
    result: torch.Tensor = pipeline(tokens, *args, **settings).images
    return result


@pytest.mark.parametrize("random", [False, True])
def test_batch_equals_single(
    pipeline: Any, tokens: torch.Tensor, coarse: torch.Tensor, random: bool
) -> None:
    if random:  # one that draws at every step
        pipeline.scheduler = EulerAncestralDiscreteScheduler(**SDXL_NOISE)
    together = images(pipeline, tokens, coarse, 1)
    for i in range(3):
        row = slice(i, i + 1)
        alone = images(pipeline, tokens[row], coarse[row], 1, generator=generators(7 + i))
        assert (together[i] - alone[0]).abs().max() <= BATCH_TOLERANCE


def test_one_generator_serves_image_after_image(pipeline: Any, tokens: torch.Tensor) -> None:
    one, again = (
        images(pipeline, tokens, generator=torch.Generator().manual_seed(7)) for _ in range(2)
    )
    assert torch.equal(one, again)
    first = images(pipeline, tokens[:1])
    assert torch.allclose(one[:1], first, atol=BATCH_TOLERANCE)


def test_samples_of_a_trial_and_their_spread(pipeline: Any, tokens: torch.Tensor) -> None:
    result = pipeline(
        tokens[:2],
        num_inference_steps=3,
        num_images_per_prompt=4,
        generator=generators(*range(8)),
        output_type="np",
    )
    assert result.images.shape == (8, 16, 16, 3)
    last = images(pipeline, tokens[1:2], guidance_scale=5.0, generator=generators(6))
    assert np.abs(result.images[6] - last[0].permute(1, 2, 0).numpy()).max() <= BATCH_TOLERANCE
    expected = np.sqrt(result.images.reshape(2, 4, 16, 16, 3).var(1, ddof=1).mean(-1))
    np.testing.assert_allclose(result.uncertainty, expected, atol=1e-6)
    assert pipeline(tokens[:1], num_inference_steps=1).uncertainty is None


def test_output_types(pipeline: Any, tokens: torch.Tensor) -> None:
    as_tensor, latents, arrays, pictures = (
        pipeline(
            tokens,
            num_inference_steps=2,
            generator=generators(7, 8, 9),
            output_type=kind,
            return_dict=False,
        )[0]
        for kind in ("pt", "latent", "np", "pil")
    )
    assert latents.shape == (3, 4, 8, 8)
    raw = pipeline.vae.decode(latents / 0.7).sample
    assert torch.allclose(as_tensor, (raw / 2 + 0.5).clamp(0, 1), atol=1e-6)
    np.testing.assert_array_equal(arrays, as_tensor.permute(0, 2, 3, 1).numpy())
    assert np.abs(np.asarray(pictures[1]) / 255 - arrays[1]).max() <= 0.5 / 255 + 1e-6


def test_unconditional_tokens(pipeline: Any, tokens: torch.Tensor) -> None:
    seen: list[torch.Tensor] = []
    hook = pipeline.unet.register_forward_hook(
        lambda _, __, options, ___: seen.append(options["encoder_hidden_states"][:3]),
        with_kwargs=True,
    )
    learned = UnconditionalTokens(5, 12)
    torch.nn.init.normal_(learned.tokens)
    full = BrainITPipeline(pipeline.vae, pipeline.unet, pipeline.scheduler, learned)
    full.set_progress_bar_config(disable=True)
    for kind in ("normal", "zeros", "learned"):
        images(full, tokens, num_inference_steps=1, unconditional=kind)
    hook.remove()
    drawn = []
    for generator in generators(7, 8, 9):
        torch.randn(4, 8, 8, generator=generator)
        torch.randn(4, 1, 1, generator=generator)
        drawn.append(torch.randn(5, 12, generator=generator))
    assert torch.equal(seen[0], torch.stack(drawn))
    assert not seen[1].any()
    assert torch.equal(seen[2], learned.tokens.detach().expand(3, 5, 12))


def test_callback_sees_and_replaces_and_stops(pipeline: Any, tokens: torch.Tensor) -> None:
    calls: list[tuple[int, float, set[str]]] = []

    def callback(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        calls.append((step, float(timestep), set(tensors)))
        assert (pipe.guidance_scale, pipe.num_timesteps, pipe.interrupt) == (2.0 - step, 3, False)
        pipe._guidance_scale = 1.0
        pipe._interrupt = step == 1
        return {"latents": torch.zeros_like(tensors["latents"])}

    sizes: list[int] = []
    hook = pipeline.unet.register_forward_hook(lambda _, args, __: sizes.append(len(args[0])))
    latents = images(
        pipeline,
        tokens,
        output_type="latent",
        callback_on_step_end=callback,
        callback_on_step_end_tensor_inputs=["latents", "tokens"],
    )
    hook.remove()
    assert calls == [(0, 999.0, {"latents", "tokens"}), (1, 666.0, {"latents", "tokens"})]
    assert sizes == [6, 3]
    assert not latents.any()


@pytest.mark.parametrize("scheduler", [None, few_step_scheduler(), HeunDiscreteScheduler()])
def test_start_steps(
    pipeline: Any, tokens: torch.Tensor, coarse: torch.Tensor, scheduler: Any
) -> None:
    pipeline.scheduler = scheduler or pipeline.scheduler
    without = images(pipeline, tokens, num_inference_steps=8)
    assert torch.equal(without, images(pipeline, tokens, coarse, 0, num_inference_steps=8))
    copy = encode_images(pipeline.vae, coarse)
    gaps = []
    for start in (2, 4, 6, 8):
        latents = images(
            pipeline, tokens, coarse, start, num_inference_steps=8, output_type="latent"
        )
        gaps.append((latents - copy).abs().mean().item())
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_the_networks_alone(
    fresh: Any, tokens: torch.Tensor, coarse: torch.Tensor, dtype: torch.dtype
) -> None:
    pipeline, types = fresh(), {}

    def record(name: str) -> Any:
        return lambda _, args: types.update({name: args[0].dtype})

    def callback(pipe: Any, _: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        types["latents"], types["sigmas"] = tensors["latents"].dtype, pipe.scheduler.sigmas.dtype
        return {}

    exact = images(pipeline, tokens, coarse, 1)
    pipeline.to(dtype)
    pipeline.unet.register_forward_pre_hook(record("unet"))
    pipeline.vae.decoder.register_forward_pre_hook(record("vae"))
    rounded = images(pipeline, tokens, coarse, 1, callback_on_step_end=callback)
    # Float16 overflows in SDXL's VAE, which says so in its configuration.
    in_vae = torch.float32 if dtype == torch.float16 else dtype
    float32 = torch.float32
    assert types == {"unet": dtype, "vae": in_vae, "latents": float32, "sigmas": float32}
    assert pipeline.vae.dtype == dtype
    assert rounded.dtype == float32
    # Eight bits (0.4 %) in each of some 20 layers, of the same noise.
    assert 0 < (exact - rounded).abs().mean() < 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": torch.zeros(3, 5, 11)}, r"tokens: expected \[B, T, 12\], got \(3, 5, 11\)"),
        ({"tokens": torch.full((3, 5, 12), float("nan"))}, "finite values, got NaN.* in set 0"),
        ({"image": torch.full((3, 3, 16, 16), float("inf"))}, r"\[0, 1\], got inf"),
        ({"image": torch.full((3, 3, 16, 16), 1.5)}, r"\[0, 1\], got 1.5 to 1.5"),
        ({"image": torch.full((3, 3, 16, 16), float("nan"))}, r"\[0, 1\], got nan"),
        ({"image": torch.zeros(2, 3, 16, 16)}, "one per trial"),
        ({"image": torch.zeros(3, 1, 16, 16)}, r"\[B, 3, H, W\]"),
        ({"image": None}, "needs a coarse image"),
        ({"start_step": 5}, "0 to 4"),
        ({"generator": generators(1)}, "expected 3, one per image, got 1"),
        ({"unconditional": "none"}, "'normal', 'zeros' or 'learned'"),
        ({"unconditional": "learned"}, "no learned tokens"),
        ({"output_type": "jpg"}, "output_type"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, r"\['latents', 'tokens'\], got"),
    ],
)
def test_wrong_calls(
    pipeline: Any, tokens: torch.Tensor, coarse: torch.Tensor, change: Any, message: str
) -> None:
    right = {"tokens": tokens, "image": coarse, "start_step": 1, "num_inference_steps": 4}
    with pytest.raises(ValueError, match=message):
        pipeline(**(right | change))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_offloading_gives_the_same_images(
    fresh: Any, tokens: torch.Tensor, coarse: torch.Tensor
) -> None:
    pytest.importorskip("accelerate")
    plain, offloaded = fresh().to("cuda"), fresh()
    offloaded.enable_model_cpu_offload()
    expected = images(plain, tokens, coarse, 1).cpu()
    assert torch.allclose(images(offloaded, tokens, coarse, 1).cpu(), expected, atol=1e-4)
