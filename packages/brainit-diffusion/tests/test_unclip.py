"""Sampling with tiny random components: what depends on what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from brainit_diffusion.fusion import fuse
from brainit_diffusion.sampler import draw_start
from brainit_diffusion.schedule import euler_scheduler, sigma_table
from brainit_diffusion.unclip import UnCLIP

# Other batch sizes only reorder float32 sums (1e-7 relative each, some hundred layers and steps).
BATCH_TOLERANCE = 1e-4


def test_batch_equals_single(unclip: UnCLIP, tokens: torch.Tensor, coarse: torch.Tensor) -> None:
    options: dict[str, Any] = {"steps": 4, "start_step": 1}
    together = unclip.generate(tokens, coarse, seeds=[7, 8, 9], batch_size=2, **options)
    for i, seed in enumerate([7, 8, 9]):
        alone = unclip.generate(tokens[i : i + 1], coarse[i : i + 1], seeds=[seed], **options)
        assert (together[i] - alone[0]).abs().max() <= BATCH_TOLERANCE


def test_same_seed_same_image(unclip: UnCLIP, tokens: torch.Tensor) -> None:
    first, again, other = (unclip.generate(tokens[:1], steps=3, seeds=[seed]) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 0.01
    assert first.shape == (1, 3, 16, 16)
    assert first.min() >= 0
    assert first.max() <= 1


def test_start_step_0_ignores_the_coarse_image(
    unclip: UnCLIP, tokens: torch.Tensor, coarse: torch.Tensor
) -> None:
    without = unclip.generate(tokens, steps=3, seeds=[1, 2, 3])
    assert torch.equal(without, unclip.generate(tokens, coarse, 0, 3, seeds=[1, 2, 3]))


def test_later_starts_come_closer_to_the_coarse_image(
    unclip: UnCLIP, tokens: torch.Tensor, coarse: torch.Tensor
) -> None:
    copy = unclip.decode(unclip.encode(coarse))
    gaps = [
        (unclip.generate(tokens, coarse, start, 20, seeds=[1, 2, 3]) - copy).abs().mean().item()
        for start in (8, 16, 19)
    ]
    assert gaps == sorted(gaps, reverse=True)
    # After the last step nothing is left to denoise.
    end = unclip.generate(tokens, coarse, 20, 20, seeds=[1, 2, 3])
    assert torch.allclose(end, copy, atol=BATCH_TOLERANCE)
    # The last of 1,000 steps starts at sigma 0.029 and moves by that times the noise minus the
    # predicted noise: at most about twice the noise for a prediction of unit size.
    last = unclip.generate(tokens, coarse, 999, 1000, guidance_scale=1.0, seeds=[1, 2, 3])
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2, 3)]
    noise, _ = draw_start(generators, (4, 8, 8), (5, 12), 0.04)
    moved = unclip.decode(unclip.encode(coarse) + 2 * 0.0292 * noise)
    assert (last - copy).abs().mean() < (moved - copy).abs().mean()


def test_guidance(unclip: UnCLIP, tokens: torch.Tensor) -> None:
    seen: list[int] = []
    hook = unclip.unet.register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    conditional = unclip.generate(tokens, steps=2, guidance_scale=1.0, seeds=[1, 2, 3])
    # Going through both sides must give the same as the conditional side alone.
    both = unclip.generate(tokens, steps=2, guidance_scale=1.0 + 1e-6, seeds=[1, 2, 3])
    hook.remove()
    assert seen == [3, 3, 6, 6]
    assert (conditional - both).abs().max() < BATCH_TOLERANCE
    strong = unclip.generate(tokens, steps=2, guidance_scale=5.0, seeds=[1, 2, 3])
    assert (conditional - strong).abs().max() > 1e-3


def test_a_network_that_predicts_v_gives_the_same_images(
    unclip: UnCLIP, tokens: torch.Tensor, tmp_path: Path
) -> None:
    def to_velocity(_: Any, args: tuple[Any, ...], output: tuple[torch.Tensor]) -> Any:
        noisy, sigma = args[0], sigma_table()[int(args[1])]
        scale = (1 + sigma**2).sqrt()
        latent = scale * noisy - sigma * output[0]
        return ((output[0] - sigma * latent) / scale,)

    for name, part in (("vae", unclip.vae), ("unet", unclip.unet)):
        part.save_pretrained(tmp_path / name)
    scheduler: Any = euler_scheduler("v_prediction")
    scheduler.save_pretrained(tmp_path / "scheduler")
    loaded = UnCLIP.load(tmp_path)
    loaded.unet.register_forward_hook(to_velocity)
    options: dict[str, Any] = {"steps": 4, "guidance_scale": 2.0, "seeds": [1, 2, 3]}
    expected = unclip.generate(tokens, **options)
    # Float32 rounding, multiplied by sigma up to 14.6 on the way there and back.
    assert (loaded.generate(tokens, **options) - expected).abs().max() < 10 * BATCH_TOLERANCE


def test_encode_and_decode_invert_scale_and_range(unclip: UnCLIP, coarse: torch.Tensor) -> None:
    raw = unclip.vae.decode(unclip.vae.encode(2 * coarse - 1).latent_dist.mean).sample
    copy = unclip.decode(unclip.encode(coarse))
    assert torch.allclose(copy, (raw / 2 + 0.5).clamp(0, 1), atol=1e-5)


def test_contrast_pulls_towards_mid_grey(unclip: UnCLIP, coarse: torch.Tensor) -> None:
    latents = 0.2 * unclip.encode(coarse)
    full, pulled = unclip.decode(latents), unclip.decode(latents, contrast=0.8)
    inside = (full > 0) & (full < 1)
    assert torch.allclose(pulled[inside], (0.5 + 0.8 * (full - 0.5))[inside], atol=1e-6)


def test_coarse_images_are_resized(unclip: UnCLIP, tokens: torch.Tensor) -> None:
    flat = torch.full((3, 3, 40, 40), 0.3)
    small = torch.full((3, 3, 16, 16), 0.3)
    large, fitting = (unclip.generate(tokens, c, 2, 3, seeds=[1, 2, 3]) for c in (flat, small))
    assert torch.allclose(large, fitting, atol=BATCH_TOLERANCE)


def test_bfloat16_stays_near_float32(unclip: UnCLIP, tokens: torch.Tensor) -> None:
    exact, rounded = (
        unclip.generate(tokens, steps=3, guidance_scale=2.0, seeds=[1, 2, 3], dtype=dtype)
        for dtype in (torch.float32, torch.bfloat16)
    )
    # bfloat16 keeps 8 bits (0.4 %) in each of some 20 layers.
    assert (exact - rounded).abs().mean() < 0.02
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)


def test_save_and_load(unclip: UnCLIP, tokens: torch.Tensor, tmp_path: Path) -> None:
    unclip.vae.save_pretrained(tmp_path / "vae")
    with pytest.raises(FileNotFoundError, match="unet"):
        UnCLIP.load(tmp_path)
    unclip.unet.save_pretrained(tmp_path / "unet")
    loaded = UnCLIP.load(tmp_path)
    images = (model.generate(tokens, steps=2, seeds=[1, 2, 3]) for model in (unclip, loaded))
    assert torch.allclose(*images, atol=BATCH_TOLERANCE)


def test_fusion(unclip: UnCLIP, tokens: torch.Tensor, coarse: torch.Tensor) -> None:
    def refiner(images: torch.Tensor, seeds: Any) -> torch.Tensor:
        return images.flip(3) if list(seeds) == [1, 2, 3] else images

    options: dict[str, Any] = {"seeds": [1, 2, 3], "steps": 4, "batch_size": 2}
    result = fuse(unclip, tokens, coarse, 2, refiner=refiner, keep=True, **options)
    expected = unclip.generate(tokens, coarse, 2, contrast=0.8, **options)
    assert torch.equal(result.fused, expected)
    assert torch.equal(result.images, expected.flip(3))
    copy = unclip.decode(unclip.encode(coarse))
    assert result.coarse is not None
    assert torch.allclose(result.coarse, copy, atol=BATCH_TOLERANCE)
    assert result.latents is not None
    assert result.latents.shape == (3, 2, 4, 8, 8)
    last = unclip.decode(result.latents[:, -1], contrast=0.8)
    assert torch.allclose(last, expected, atol=BATCH_TOLERANCE)
    plain = fuse(unclip, tokens, coarse, 2, **options)
    assert torch.equal(plain.images, expected)
    assert (plain.coarse, plain.latents) == (None, None)
    assert fuse(unclip, tokens, coarse, 4, keep=True, **options).latents is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": torch.zeros(3, 5, 11)}, r"\[B, T, 12\]"),
        ({"tokens": torch.full((3, 5, 12), float("inf"))}, "finite values"),
        ({"coarse": torch.full((3, 3, 16, 16), 1.5)}, "values in"),
        ({"coarse": torch.full((3, 3, 16, 16), float("nan"))}, "values in"),
        ({"coarse": torch.zeros(2, 3, 16, 16)}, "one per trial"),
        ({"seeds": [1]}, "one per image"),
        ({"start_step": 5}, "0 to 4"),
        ({"coarse": None}, "needs a coarse image"),
    ],
)
def test_wrong_input(
    unclip: UnCLIP, tokens: torch.Tensor, coarse: torch.Tensor, change: Any, message: str
) -> None:
    right = {"tokens": tokens, "coarse": coarse, "start_step": 1, "steps": 4, "seeds": [1, 2, 3]}
    with pytest.raises(ValueError, match=message):
        unclip.generate(**(right | change))
