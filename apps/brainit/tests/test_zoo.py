"""The shipped tiny models: size, form, and what they can do on scenes they never saw."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from brainit.zoo import clip as clip_recipe
from brainit.zoo import quality, train
from brainit.zoo import unet as unet_recipe
from brainit.zoo import vgg as vgg_recipe
from brainit.zoo.data import FRESH_FIRST, TRAIN_COUNT, TRAIN_FIRST, scene_table
from brainit.zoo.decoded import CLEAN, DecodedTokens
from brainit.zoo.files import shipped_models, write_model
from brainit.zoo.guide import Guide, neighbourhood
from brainit.zoo.trainer import Plan, Trainer, rate_at
from brainit.zoo.unet import encode_latents, load_eyes
from brainit_diffusion import added_conditions, vector_condition

MODELS = shipped_models()
SEEDS = range(FRESH_FIRST, FRESH_FIRST + 128)


def test_all_models_together_are_small_and_of_half_precision() -> None:
    files = [file for file in MODELS.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 20_000_000
    weights = [file for file in files if file.suffix == ".safetensors"]
    assert {file.parent.name for file in weights} == {"vgg", "clip", "vae", "unet"}
    for file in weights:
        kinds = {t.dtype for t in load_file(file).values() if t.is_floating_point()}
        assert kinds == {torch.float16}, file


def test_fresh_scenes_are_not_training_scenes() -> None:
    assert TRAIN_FIRST + TRAIN_COUNT <= FRESH_FIRST
    assert not set(SEEDS) & set(range(TRAIN_FIRST, TRAIN_FIRST + TRAIN_COUNT))


def test_vgg_has_torchvisions_names_and_names_objects() -> None:
    config = json.loads((MODELS / "vgg" / "config.json").read_text())
    state = load_file(MODELS / "vgg" / "model.safetensors")
    assert state["features.0.weight"].shape == (config["channels"][0][0], 3, 3, 3)
    # Convolutions of VGG16-BN stand at these places in torchvision's `features`.
    convolutions = [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40]
    widths = [width for level in config["channels"] for width in level]
    assert [len(state[f"features.{i}.weight"]) for i in convolutions] == widths
    # Chance is 2 %; measured 67 % on 200 scenes, whose standard error is 3 %.
    assert quality.vgg_accuracy(MODELS / "vgg", SEEDS) > 0.5


def test_clip_names_objects_and_finds_captions() -> None:
    # Chance is 2 % and 0.8 %; measured 82.5 % (standard error on 128 scenes 3.4 %) and 100 %.
    assert quality.clip_zero_shot(MODELS / "clip", SEEDS) > 0.7
    assert quality.clip_retrieval(MODELS / "clip", SEEDS) > 0.95


def test_clip_patch_tokens_have_unit_spread() -> None:
    clip, _ = load_eyes(MODELS)
    images = clip_recipe.normalise(scene_table(SEEDS[:32]).batch(np.arange(32)))
    with torch.no_grad():
        tokens = clip_recipe.patch_tokens(clip.visual, images)
    assert tokens.shape == (32, 64, 128)
    # One on the training scenes by construction; other scenes differ by sampling alone.
    assert float(tokens.std()) == pytest.approx(1.0, abs=0.05)


def test_clip_patch_tokens_tell_their_place() -> None:
    """Least squares on some scenes names the place, of 64, of other scenes' tokens.

    Without the training's question for it a token hardly knew (0.29), and a UNet that attends to
    tokens by content alone could not tell which of them lay where it was drawing.
    """
    clip, _ = load_eyes(MODELS)
    images = clip_recipe.normalise(scene_table(SEEDS[:64]).batch(np.arange(64)))
    with torch.no_grad():
        tokens = clip_recipe.patch_tokens(clip.visual, images)
    known, others = functional.pad(tokens, (0, 1), value=1.0).split([48, 16])
    answers = torch.eye(64).repeat(len(known), 1)
    readout = torch.linalg.lstsq(known.flatten(0, 1), answers, driver="gelsd").solution
    correct = (others @ readout).argmax(-1) == torch.arange(64)
    assert correct.float().mean() > 0.9


def test_unit_tokens_leaves_embeddings_as_they_were() -> None:
    torch.manual_seed(0)
    clip = clip_recipe.build().eval()
    images = torch.randn(4, 3, 96, 96)
    with torch.no_grad():
        before = clip.encode_image(images)
        clip_recipe.unit_tokens(clip, images)
        after = clip.encode_image(images)
        assert float(clip_recipe.patch_tokens(clip.visual, images).std()) == pytest.approx(1, 1e-4)
    # Only the epsilon of the layer norms (1e-5 of a variance) sees the scale.
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)


def test_flipping_a_scene_flips_its_labels_and_its_caption() -> None:
    table = scene_table(SEEDS[:8])
    tokenizer = clip_recipe.make_tokenizer()
    texts = clip_recipe._ids(tokenizer, table.captions)
    objects = torch.from_numpy(table.objects)
    images, swapped, moved = clip_recipe.flipped(table.batch(np.arange(8)), texts, objects)
    labels = clip_recipe.patch_labels(objects).view(8, 8, 8)
    assert torch.equal(clip_recipe.patch_labels(moved).view(8, 8, 8), labels.flip(2))
    assert torch.equal(images.flip(3), table.batch(np.arange(8)))
    for old, new in zip(table.captions, swapped, strict=True):
        text = tokenizer.decode(new, skip_special_tokens=True)
        exchange = {"left": "right", "right": "left"}
        assert text.split() == [exchange.get(word, word) for word in old.split()]


def test_vocabulary_knows_every_word_of_the_captions() -> None:
    tokenizer = clip_recipe.make_tokenizer()
    ids = clip_recipe._ids(tokenizer, scene_table(SEEDS).captions)
    assert not (ids == tokenizer.unk_token_id).any()
    # Each sentence ends within the context: nothing was cut off.
    assert (ids == tokenizer.eos_token_id).any(1).all()


def test_vae_rebuilds_scenes() -> None:
    # Measured 22.2 dB on these scenes.
    assert quality.vae_psnr(MODELS / "vae", SEEDS[:64]) > 21.8


def test_vae_scaling_factor_gives_unit_latents() -> None:
    latents = encode_latents(scene_table(SEEDS[:64]), load_eyes(MODELS)[1])
    assert float(latents.float().std()) == pytest.approx(1.0, abs=0.1)


def test_unet_makes_images_of_the_scenes_whose_tokens_it_saw() -> None:
    score = quality.unclip_two_way(MODELS, SEEDS[:32], steps=10)
    # Chance is 50 %; measured 99.5 % on these scenes with these steps.
    assert score > 0.97


def test_unet_draws_where_the_tokens_say() -> None:
    """Pixels correlate with the scene's: 0.75 measured; 0.5 with tokens that hid their places."""
    images = scene_table(SEEDS[:32]).batch(np.arange(32))
    clip, vae = load_eyes(MODELS)
    unet = UNet2DConditionModel.from_pretrained(MODELS / "unet", torch_dtype=torch.float32)
    with torch.no_grad():
        tokens = clip_recipe.patch_tokens(clip.visual, clip_recipe.normalise(images))
        made = unet_recipe.unclip(vae, unet).generate(
            tokens, steps=10, guidance_scale=3, seeds=range(32)
        )
    pairs = torch.stack([images.flatten(1), made.flatten(1)], 1)
    correlations = torch.stack([torch.corrcoef(pair)[0, 1] for pair in pairs])
    assert correlations.mean() > 0.65


def test_decoded_tokens_are_best_estimates() -> None:
    """The error of a best estimate is uncorrelated with it, and grows where variance is small."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.logspace(-1, 1, 6)
    tokens = 3 + scales * torch.randn(4_000, 16, 6, generator=generator)
    decoded = DecodedTokens.fit(tokens)
    drawn = decoded.draw(tokens, generator)
    clean = (drawn == tokens).flatten(1).all(1)
    # Binomial: the standard error of the fraction is below 0.008.
    assert float(clean.float().mean()) == pytest.approx(CLEAN, abs=0.03)
    estimate, error = (drawn - 3)[~clean], (tokens - drawn)[~clean]
    explained = estimate.square().mean((0, 1)) / scales.square()
    together = (estimate * error).mean((0, 1)) / scales.square()
    # Products of two normals over 2,800 x 16 draws: standard errors below 0.01.
    torch.testing.assert_close(together, torch.zeros(6), rtol=0, atol=0.03)
    assert (explained.diff() > 0).all()
    assert explained[0] < 0.1
    assert explained[-1] > 0.3


def test_guide_attends_as_the_unet_does_and_measures_nearness() -> None:
    torch.manual_seed(0)
    unet = unet_recipe.build().eval()
    latents, tokens = torch.randn(2, 8, 12, 12), torch.randn(2, 64, 128)

    def run() -> torch.Tensor:
        condition = added_conditions(vector_condition(2, (96, 96)))
        return unet(latents, 5, tokens, added_cond_kwargs=condition).sample

    with torch.no_grad():
        before = run()
        guide = Guide(unet)
        torch.testing.assert_close(run(), before, rtol=0, atol=1e-5)
    # An untrained UNet attends almost evenly: the mass near is the mean share of near tokens.
    share = neighbourhood(36, 64).mean(1).log().mean()
    assert float(guide.take()) == pytest.approx(-float(share), abs=0.1)


def test_neighbourhood_is_the_same_from_all_sides() -> None:
    near = neighbourhood(36, 64).view(6, 6, 8, 8)
    assert torch.equal(near, near.flip(0, 2))
    assert torch.equal(near, near.permute(1, 0, 3, 2))
    assert near[0, 0].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_resumed_training_equals_uninterrupted_training(tmp_path: Path) -> None:
    def run(folder: Path, stops: list[int]) -> dict[str, torch.Tensor]:
        for stop in stops:
            torch.manual_seed(stop)  # what the weights start from must not matter after a resume
            if stop == stops[0]:
                torch.manual_seed(0)
            model = nn.Sequential(
                nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 1)
            )
            model = model.to(memory_format=torch.channels_last)

            def loss_of(generator: torch.Generator, model: nn.Module = model) -> torch.Tensor:
                x = torch.randn(8, 2, 4, 4, generator=generator)
                return (model(x).squeeze(1) - x.mean((1, 2, 3))).square().mean()

            plan = Plan(12, rate=1e-2, warmup=3, ema=0.9, save_every=4, log_every=4)
            trainer = Trainer(model, loss_of, plan, folder)
            _stop_at(trainer, stop)
        return trainer.averaged() | {"linear": model[3].weight.detach()}

    whole, parts = run(tmp_path / "whole", [12]), run(tmp_path / "parts", [4, 8, 12])
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=0, atol=0)


def test_memory_order_changes_no_training(tmp_path: Path) -> None:
    # The fused optimiser reads raw memory: a gradient laid out otherwise would go to wrong weights.
    def run(order: torch.memory_format) -> torch.Tensor:
        torch.manual_seed(0)
        model = nn.Conv2d(4, 8, 3).to(memory_format=order)

        def loss_of(generator: torch.Generator) -> torch.Tensor:
            x = torch.randn(4, 4, 6, 6, generator=generator).to(memory_format=order)
            return (model(x)[:, 0] - x[:, 1, 1:-1, 1:-1]).square().mean()

        plan = Plan(20, rate=1e-2, warmup=1, shards=2)
        Trainer(model, loss_of, plan, tmp_path / str(order)).fit()
        return model.weight.detach().contiguous()

    plain, last = run(torch.contiguous_format), run(torch.channels_last)
    # A step moves a weight by at most 1e-2; rounding alone changes its direction by far below 1 %.
    torch.testing.assert_close(plain, last, rtol=0, atol=1e-4)


def test_rate_warms_up_and_falls_to_zero() -> None:
    plan = Plan(100, rate=2.0, warmup=10)
    assert rate_at(plan, 0) == pytest.approx(0.2)
    assert rate_at(plan, 10) == pytest.approx(2.0)
    assert rate_at(plan, 55) == pytest.approx(1.0)
    assert rate_at(plan, 100) == pytest.approx(0.0)


def test_a_weight_too_large_for_half_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="big does not fit float16"):
        write_model(tmp_path, "model.safetensors", {"big": torch.tensor([1e6])}, {})
    assert not (tmp_path / "model.safetensors").exists()


def test_unknown_recipe_and_bad_steps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no recipe 'vqg'"):
        train("vqg", tmp_path)
    with pytest.raises(ValueError, match="steps is 0"):
        train("vgg", tmp_path, steps=0)


def test_vgg_targets_name_the_objects_and_the_background() -> None:
    table = scene_table(SEEDS[:4])
    targets = vgg_recipe.targets(table)
    names = vgg_recipe.classes()
    for row, caption in zip(targets, table.captions, strict=True):
        for index in row.nonzero().flatten().tolist():
            assert names[index] in caption


class _Stop(Exception):
    pass


def _stop_at(trainer: Trainer, step: int) -> None:
    def every(trainer: Trainer) -> None:
        if trainer.step == step:
            raise _Stop

    with pytest.raises(_Stop):
        trainer.fit(resume=True, every=every)
