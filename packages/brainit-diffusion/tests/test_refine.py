"""Refinement with a real SDXL image-to-image pipeline of tiny random parts, built from configs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from brainit_diffusion import refine
from brainit_diffusion.refine import refine_images


@pytest.fixture(scope="module")
def pipeline() -> Any:
    diffusers = pytest.importorskip("diffusers")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    text = transformers.CLIPTextConfig(
        vocab_size=3,
        hidden_size=16,
        intermediate_size=16,
        projection_dim=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=8,
    )
    tokenizer = transformers.CLIPTokenizer(model_max_length=8)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=(1, 2),
        norm_num_groups=4,
        cross_attention_dim=32,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 16,
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    )
    result = diffusers.StableDiffusionXLImg2ImgPipeline(
        vae,
        transformers.CLIPTextModel(text).eval(),
        transformers.CLIPTextModelWithProjection(text).eval(),
        tokenizer,
        tokenizer,
        unet.eval(),
        diffusers.EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
        ),
        add_watermarker=False,
    )
    result.set_progress_bar_config(disable=True)
    return result


def test_the_last_9_of_25_steps_run_at_the_asked_size(pipeline: Any) -> None:
    times: list[float] = []
    hook = pipeline.unet.register_forward_hook(lambda _, args, __: times.append(float(args[1])))
    images = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    result = refine_images(pipeline, images, [1, 2], size=24)
    hook.remove()
    pipeline.scheduler.set_timesteps(25)
    assert times == pipeline.scheduler.timesteps[-9:].tolist()
    assert result.shape == (2, 3, 24, 24)
    assert result.min() >= 0
    assert result.max() <= 1


def test_each_image_has_its_own_seed(pipeline: Any) -> None:
    images = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    options = {"size": 16, "steps": 4, "last_steps": 2}
    together = refine_images(pipeline, images, [5, 6], **options)
    alone = refine_images(pipeline, images[1:], [6], **options)
    other = refine_images(pipeline, images[1:], [7], **options)
    # Another batch only reorders float32 sums.
    assert torch.allclose(together[1], alone[0], atol=1e-4)
    assert (alone - other).abs().max() > 1e-3


def test_wrong_numbers() -> None:
    with pytest.raises(ValueError, match="1 to 25"):
        refine_images(None, torch.zeros(1, 3, 8, 8), [1], last_steps=26)
    with pytest.raises(ValueError, match="one per image"):
        refine_images(None, torch.zeros(1, 3, 8, 8), [1, 2])
    with pytest.raises(ValueError, match="negative_prompt: expected 1"):
        refine_images(None, torch.zeros(1, 3, 8, 8), [1], negative_prompt=["a", "b"])
    with pytest.raises(ValueError, match=r"values in \[0, 1\], got -1"):
        refine_images(None, torch.full((1, 3, 8, 8), -1.0), [1])


def test_a_lazy_refiner_reads_its_pipeline_once_and_late(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []

    def load(*args: Any) -> Any:
        read.append(args)
        return pipeline

    monkeypatch.setattr(refine, "load_refiner", load)
    settings: dict[str, Any] = {"size": 16, "steps": 4, "last_steps": 2}
    refiner = refine.lazy_refiner("some/model", torch.float32, **settings)
    assert not read
    images = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    results = [refiner(images, [5, 6]) for _ in range(2)]
    assert read == [("some/model", torch.float32)]
    assert torch.equal(*results)
    assert torch.equal(results[0], refine_images(pipeline, images, [5, 6], **settings))


def test_each_image_has_its_own_prompts(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def encode(prompt: list[str], negative_prompt: list[str], **options: Any) -> Any:
        given.append((prompt, negative_prompt))
        raise StopIteration

    monkeypatch.setattr(pipeline, "encode_prompt", encode)
    with pytest.raises(StopIteration):
        refine_images(
            pipeline, torch.zeros(2, 3, 8, 8), [1, 2], prompt=["a cat", "a dog"], negative_prompt=""
        )
    assert given == [(["a cat", "a dog"], ["", ""])]
