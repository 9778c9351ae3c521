"""Inversion: the objective, the average, independence of images, recovery, refusals."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from brainit_dip import (
    InversionConfig,
    Progress,
    SkipConfig,
    SkipNetwork,
    VGGFeatures,
    VGGTokens,
    invert,
    recover,
)
from brainit_dip.descent import Descent
from brainit_dip.objective import Objective
from brainit_dip.pixel_images import total_variation

SMALL = InversionConfig(
    image_size=32,
    network=SkipConfig(8, (16, 16), (16, 16), (4, 4)),
    steps=4,
    lr=1e-2,
    average_decay=0.5,
    batch_size=3,
)


def test_reference_preset_holds_the_published_numbers() -> None:
    config = InversionConfig.named("reference")
    assert (config.image_size, config.steps, config.lr, config.schedule) == (
        224,
        1800,
        1e-3,
        "constant",
    )
    assert (config.noise, config.jitter, config.average_decay) == (0.1, 1 / 30, 0.99)
    assert config.network == SkipConfig(32, (128,) * 3, (128,) * 3, (2,) * 3)
    assert config.level_weights is None
    assert config.precision == "float32"


def test_loss_is_the_mean_over_levels_of_the_mse(vgg: VGGFeatures, images: Tensor) -> None:
    vgg = vgg.double()
    maps = vgg(images.double())
    result = invert(maps, vgg, replace(SMALL, jitter=0.0), [5, 6, 7])
    for i, seed in enumerate([5, 6, 7]):
        generator = torch.Generator().manual_seed(seed)
        network = SkipNetwork(SMALL.network, [generator]).double()
        noise = torch.rand(1, 8, 32, 32, generator=generator).double() * SMALL.noise
        found = vgg(network(noise))
        errors = [
            torch.nn.functional.mse_loss(a[0], m[i]) for a, m in zip(found, maps, strict=True)
        ]
        torch.testing.assert_close(result.loss[0, i], sum(errors) / 4, rtol=1e-9, atol=0)


def test_an_image_does_not_depend_on_its_batch(vgg: VGGFeatures, images: Tensor) -> None:
    vgg = vgg.double()
    maps, seeds = vgg(images.double()), [3, 1, 2]
    together = invert(maps, vgg, replace(SMALL, steps=8), seeds)
    chunked = invert(maps, vgg, replace(SMALL, steps=8, batch_size=2), seeds)
    assert together.images.shape == (3, 3, 32, 32)
    assert together.loss.shape == (8, 3)
    for i in range(3):
        alone = invert([m[i : i + 1] for m in maps], vgg, replace(SMALL, steps=8), seeds[i : i + 1])
        for result in (together, chunked):
            # float64 rounding, grown by 8 Adam steps; images of other seeds differ by 0.1.
            torch.testing.assert_close(result.images[i], alone.images[0], rtol=0, atol=1e-6)
            torch.testing.assert_close(result.loss[:, i], alone.loss[:, 0], rtol=1e-6, atol=0)


def test_seeds_decide(vgg: VGGFeatures, images: Tensor) -> None:
    maps = [m[:1].repeat(2, 1, 1, 1) for m in vgg(images)]
    first, second = invert(maps, vgg, SMALL, [0, 1]), invert(maps, vgg, SMALL, [0, 1])
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.loss, second.loss)
    assert (first.images[0] - first.images[1]).abs().mean() > 0.01


def test_jitter_is_normal_noise_of_its_width_and_new_at_each_step(
    vgg: VGGFeatures, images: Tensor
) -> None:
    descent, found = Descent(Objective(vgg(images)), vgg, SMALL, [0, 1, 2]), []
    for _ in range(3):
        descent.step()
        found.append(descent.inputs - descent.fixed)
        # Three images of 8 x 32 x 32 draws: their standard deviation is known within 0.5 %.
        assert abs(30 * float(found[-1].std()) - 1) < 0.02
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])


def test_re_initialisation_changes_every_parameter(vgg: VGGFeatures, images: Tensor) -> None:
    trained = Descent(Objective(vgg(images)), vgg, SMALL, [0, 1, 2])
    for _ in range(2):
        trained.step()
    anew = Descent(Objective(vgg(images)), vgg, SMALL, [0, 1, 2]).network.state_dict()
    others = Descent(Objective(vgg(images)), vgg, SMALL, [3, 4, 5]).network.state_dict()
    for name, learnt in trained.network.named_parameters():
        assert (learnt != anew[name]).flatten(1).any(1).all(), name
        assert (learnt != others[name]).flatten(1).any(1).all(), name


def test_a_batch_that_is_done_is_freed_at_once(vgg: VGGFeatures, images: Tensor) -> None:
    gc.collect()
    gc.disable()  # a device's memory must not wait for it
    try:
        descent = Descent(Objective(vgg(images)), vgg, SMALL, [0, 1, 2])
        descent.step()
        held = [weakref.ref(x) for x in (descent, descent.average, *descent.network.parameters())]
        del descent
        assert [x() for x in held] == [None] * len(held)
    finally:
        gc.enable()


def test_answer_is_the_bias_corrected_running_average(vgg: VGGFeatures, images: Tensor) -> None:
    vgg = vgg.double()
    maps = vgg(images.double())

    def answer(steps: int, decay: float) -> Tensor:
        config = replace(SMALL, steps=steps, average_decay=decay)
        return invert(maps, vgg, config, [0, 1, 2]).images

    one, two, three = (answer(steps, 0.0) for steps in (1, 2, 3))
    expected = (0.9**2 * one + 0.9 * two + three) / (0.9**2 + 0.9 + 1)
    torch.testing.assert_close(answer(3, 0.9), expected, rtol=1e-6, atol=1e-6)


def test_true_features_lead_to_the_image(vgg: VGGFeatures, images: Tensor) -> None:
    config = replace(SMALL, steps=100, jitter=0.01, schedule="cosine", average_decay=0.9)
    result = invert(vgg(images), vgg, config, [0, 1, 2])
    assert result.images.dtype == torch.float32
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    assert (result.loss[-1] < 0.5 * result.loss[0]).all()
    found, true = result.images.flatten(1), images.flatten(1)
    correlation = torch.corrcoef(torch.cat([found, true]))[:3, 3:]
    assert (correlation.argmax(1) == torch.arange(3)).all()
    # The images are made of 4x4 values. An answer whose features are nearer than those of the
    # image's own 3x3 thumbnail has found detail that no colour layout explains.
    thumbnails = F.interpolate(F.adaptive_avg_pool2d(images, 3), size=32, mode="bilinear")
    assert (
        _feature_error(vgg, result.images, images) < _feature_error(vgg, thumbnails, images)
    ).all()


def _feature_error(vgg: VGGFeatures, found: Tensor, true: Tensor) -> Tensor:
    """Mean over the levels of each image's mean squared error, [n]."""
    with torch.no_grad():
        pairs = zip(vgg(found), vgg(true), strict=True)
        return torch.stack([(a - b).square().flatten(1).mean(1) for a, b in pairs]).mean(0)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_flat_images(vgg: VGGFeatures, value: float) -> None:
    result = invert(vgg(torch.full((1, 3, 32, 32), value)), vgg, replace(SMALL, steps=60), [0])
    assert result.images.isfinite().all()
    assert result.loss[-1, 0] < 0.5 * result.loss[0, 0]


def test_bfloat16_follows_float32(vgg: VGGFeatures, images: Tensor) -> None:
    maps = vgg(images)
    exact = invert(maps, vgg, replace(SMALL, steps=1), [0, 1, 2])
    rough = invert(maps, vgg, replace(SMALL, steps=1, precision="bfloat16"), [0, 1, 2])
    assert rough.images.dtype == rough.loss.dtype == torch.float32
    # 2^-9 a rounding, some 20 layers of random signs and a last sigmoid of slope 1/4.
    torch.testing.assert_close(rough.images, exact.images, rtol=0, atol=20 * 2**-9)
    torch.testing.assert_close(rough.loss, exact.loss, rtol=0.05, atol=0)
    assert not torch.equal(rough.images, exact.images)


def test_level_weights(vgg: VGGFeatures, images: Tensor) -> None:
    maps = vgg(images)
    mean = invert(maps, vgg, SMALL, [0, 1, 2])
    equal = invert(maps, vgg, replace(SMALL, level_weights=(3.0,) * 4), [0, 1, 2])
    torch.testing.assert_close(mean.loss[0], equal.loss[0], rtol=1e-5, atol=0)
    ones = torch.eye(4).tolist()
    alone = [invert(maps, vgg, replace(SMALL, level_weights=tuple(w)), [0, 1, 2]) for w in ones]
    torch.testing.assert_close(
        mean.loss[0], torch.stack([a.loss[0] for a in alone]).mean(0), rtol=1e-5, atol=0
    )


def test_bad_targets_are_refused(vgg: VGGFeatures, images: Tensor) -> None:
    maps = vgg(images)
    with pytest.raises(ValueError, match=r"maps: expected .* for 2 seeds"):
        invert(maps, vgg, SMALL, [0, 1])
    with pytest.raises(ValueError, match="maps: expected"):
        invert(maps[:3], vgg, SMALL, [0, 1, 2])
    with pytest.raises(ValueError, match="level_weights: expected 4, got 2"):
        invert(maps, vgg, replace(SMALL, level_weights=(1.0, 1.0)), [0, 1, 2])
    maps[2][1, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="maps: level 3 holds NaN"):
        invert(maps, vgg, SMALL, [0, 1, 2])


@pytest.mark.parametrize(
    "change",
    [{"steps": 0}, {"lr": 0.0}, {"average_decay": 1.0}, {"schedule": "x"}, {"precision": "half"}],
)
def test_bad_settings_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        replace(SMALL, **change)


def test_tokens_and_maps_are_the_same_targets(vgg: VGGFeatures, images: Tensor) -> None:
    maps = vgg(images)
    tokens = VGGTokens(vgg.widths, vgg.image_size).pack(maps)
    # Means of the repeats round; four steps of Adam let that grow.
    a, b = invert(tokens, vgg, SMALL, 5), invert(maps, vgg, SMALL, [5, 6, 7])
    torch.testing.assert_close(a.loss[0], b.loss[0], rtol=1e-5, atol=0)
    with pytest.raises(ValueError, match="tokens: expected"):
        invert(tokens[:, 1:], vgg, SMALL)
    tokens[1, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="maps: level 1 holds NaN"):
        invert(tokens, vgg, SMALL)


def test_gradient_of_the_objective_is_the_finite_difference(
    vgg: VGGFeatures, images: Tensor
) -> None:
    vgg = vgg.double()
    targets = vgg(images.double())
    generator = torch.Generator().manual_seed(0)
    weights = [
        torch.rand(3, *m.shape[2:], generator=generator, dtype=torch.float64) for m in targets
    ]
    objective = Objective(targets, (1.0, 2.0, 3.0, 4.0), weights)
    # No two pixels are equal: at ties of a maximum pooling there is no derivative.
    x = torch.rand(images.shape, generator=generator, dtype=torch.float64).requires_grad_()
    direction = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    loss = objective(vgg(x)).sum() + total_variation(x).sum()
    (gradient,) = torch.autograd.grad(loss, x)
    # Central differences: error h^2 of a smooth function; few ReLUs switch within 1e-6.
    step = 1e-6
    with torch.no_grad():
        ends = [
            objective(vgg(y)).sum() + total_variation(y).sum()
            for y in (x + step * direction, x - step * direction)
        ]
    found = (ends[0] - ends[1]) / (2 * step)
    torch.testing.assert_close(found, (gradient * direction).sum(), rtol=1e-4, atol=1e-7)


def test_token_weights_weigh_positions_within_their_level(vgg: VGGFeatures, images: Tensor) -> None:
    maps, layout = vgg(images), VGGTokens(vgg.widths, vgg.image_size)
    plain = invert(maps, vgg, SMALL)
    same = invert(maps, vgg, SMALL, token_weights=torch.full((layout.n_tokens,), 7.0))
    torch.testing.assert_close(plain.loss[0], same.loss[0], rtol=1e-5, atol=0)
    # Only the last position of the last level counts in it: by hand from the first image.
    last = torch.ones(3, layout.n_tokens)
    last[:, -layout.level_sizes[-1] : -1] = 0
    config = replace(SMALL, level_weights=(0.0, 0.0, 0.0, 1.0), jitter=0.0)
    found = invert(maps, vgg, config, [5, 6, 7], token_weights=last)
    generator = torch.Generator().manual_seed(5)
    network = SkipNetwork(SMALL.network, [generator])
    noise = torch.rand(1, 8, 32, 32, generator=generator) * SMALL.noise
    error = (vgg(network(noise))[-1][0] - maps[-1][0])[:, -1, -1].square().mean()
    torch.testing.assert_close(found.loss[0, 0], error, rtol=1e-5, atol=0)
    last[1, -1] = 0
    with pytest.raises(ValueError, match="all of level 4 are zero"):
        invert(maps, vgg, config, token_weights=last)
    with pytest.raises(ValueError, match=r"token_weights: expected \[\d+\] or \[3, \d+\]"):
        invert(maps, vgg, config, token_weights=last[0, 1:])


def test_an_image_that_stops_early_leaves_the_others_alone(
    vgg: VGGFeatures, images: Tensor
) -> None:
    vgg = vgg.double()
    maps = vgg(images.double())
    config = replace(SMALL, steps=24, stop_window=4, stop_tolerance=0.06)
    together = invert(maps, vgg, config, [0, 1, 2])
    assert together.steps.min() < 24
    assert len(set(together.steps.tolist())) > 1
    for i in range(3):
        alone = invert([m[i : i + 1] for m in maps], vgg, config, [i])
        assert together.steps[i] == alone.steps[0]
        taken = int(alone.steps[0])
        # float64 rounding grown by 24 Adam steps; images of other seeds differ by 0.1.
        torch.testing.assert_close(together.images[i], alone.images[0], rtol=0, atol=1e-5)
        assert together.loss[taken:, i].isnan().all()
        # The rule, by hand: the first multiple of 4 at which the window's mean fell too little.
        means = alone.loss[:taken, 0].unflatten(0, (-1, 4)).mean(1)
        small = means[1:] > 0.94 * means[:-1]
        assert not small[:-1].any()
        assert small[-1] or taken == 24


def test_a_callback_sees_every_step(vgg: VGGFeatures, images: Tensor) -> None:
    seen: list[Progress] = []
    config = replace(SMALL, batch_size=2)
    result = invert(vgg(images), vgg, config, callback=seen.append)
    assert [(p.rows, p.step) for p in seen] == [
        *[([0, 1], i) for i in range(1, 5)],
        *[([2], i) for i in range(1, 5)],
    ]
    assert torch.equal(seen[3].images, result.images[:2])
    assert torch.equal(torch.stack([p.loss for p in seen[:4]]), result.loss[:, :2])


@pytest.mark.parametrize("network", [SMALL.network, None])
def test_a_start_is_where_it_starts(
    vgg: VGGFeatures, images: Tensor, network: SkipConfig | None
) -> None:
    config = replace(SMALL, network=network, steps=1)
    result = invert(vgg(images), vgg, config, start=images)
    assert (result.images - images.clamp(0.01, 0.99)).abs().max() < 1e-5
    longer = invert(vgg(images), vgg, replace(config, steps=3), start=images)
    assert (longer.images - images).abs().mean() > 1e-4
    with pytest.raises(ValueError, match=r"start: expected \[3, 3, H, W\]"):
        invert(vgg(images), vgg, config, start=images[:2])
    with pytest.raises(ValueError, match=r"start: expected values in \[0, 1\]"):
        invert(vgg(images), vgg, config, start=2 * images)


def test_pixels_alone_reach_the_features_and_total_variation_smooths(
    vgg: VGGFeatures, images: Tensor
) -> None:
    config = replace(InversionConfig.named("pixels"), precision="float32", steps=40, batch_size=3)
    rough = invert(vgg(images), vgg, replace(config, total_variation=0.0))
    smooth = invert(vgg(images), vgg, replace(config, total_variation=3.0))
    assert (rough.loss[-1] < 0.6 * rough.loss[0]).all()
    assert (total_variation(smooth.images) < 0.5 * total_variation(rough.images)).all()


def test_recovery_inverts_true_features(vgg: VGGFeatures, images: Tensor) -> None:
    assert torch.equal(
        recover(images, vgg, SMALL, 3).images, invert(vgg(images), vgg, SMALL, 3).images
    )


def test_presets_have_names() -> None:
    assert InversionConfig.named("fast", steps=7).steps == 7
    assert InversionConfig.named("fast").image_size == 224
    assert InversionConfig.named("warm").image_size is None
    assert InversionConfig.named("quality").image_size == 224
    assert InversionConfig.named("quality").network == InversionConfig.named("reference").network
    with pytest.raises(ValueError, match="preset: expected one of reference"):
        InversionConfig.named("best")
    with pytest.raises(ValueError, match="stepz"):
        InversionConfig.named("fast", stepz=7)
