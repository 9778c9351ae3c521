"""Metrics that take batches: the functions' numbers, however the pictures are split."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from brainit_eval import (
    Benchmark,
    CorrelationDistance,
    PerceptualDistance,
    PixelMetric,
    Protocol,
    TwoWayIdentification,
    correlation_distance,
    from_arrays,
    identify,
    pixcorr,
    ssim,
    ssim_columns,
    streaming,
)
from brainit_eval.pictures.resize import Resize

N, SIDE = 12, 24
SPLITS = ([N], [1] * N, [5, 7], [1, N - 1], [4, 4, 4])


def features(images: Tensor) -> dict[str, Tensor]:
    """What a network may give: an early layer, and a late one, which counts."""
    weights = torch.randn(3 * SIDE**2, 9, generator=torch.Generator().manual_seed(2))
    return {"early": images, "late": images.flatten(1) @ weights.to(images.dtype)}


def distance(images: Tensor, truth: Tensor) -> Tensor:
    return (images - truth).square().mean((1, 2, 3))


def late(images: Tensor) -> Tensor:
    return features(images)["late"]


METRICS = {
    "pixcorr": (lambda: PixelMetric("pixcorr"), pixcorr, True),
    "ssim": (lambda: PixelMetric("ssim"), ssim, True),
    "ssim_columns": (lambda: PixelMetric("ssim_columns"), ssim_columns, True),
    "perceptual": (lambda: PerceptualDistance(distance), distance, False),
    "correlation_distance": (
        lambda: CorrelationDistance(features),
        lambda a, b: correlation_distance(late(a), late(b)),
        False,
    ),
    "two_way": (
        lambda: TwoWayIdentification(features),
        lambda a, b: identify(late(a), late(b)).reconstruction_fixed.per_image,
        True,
    ),
    "two_way, image fixed": (
        lambda: TwoWayIdentification(features, "image_fixed"),
        lambda a, b: identify(late(a), late(b)).image_fixed.per_image,
        True,
    ),
}


@pytest.fixture(scope="module")
def pairs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(N, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)
    other = torch.rand(N, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)
    return 0.2 * truth + 0.8 * other, truth


@pytest.mark.parametrize("name", METRICS)
def test_every_split_gives_the_numbers_of_the_function(pairs, name) -> None:
    make, function, higher_is_better = METRICS[name]
    expected = np.asarray(function(*pairs))
    assert len(set(expected.tolist())) > 2  # a metric of one value would hide a wrong order
    metric = make()
    assert metric.higher_is_better is higher_is_better
    for split in SPLITS:
        metric.reset()
        for images, truth in zip(*(side.split(split) for side in pairs), strict=True):
            metric.update(images, truth)
        # float64 sums of 1728 terms near 1, in whatever order a batch has them
        np.testing.assert_allclose(metric.per_image(), expected, rtol=0, atol=1e-12)
        assert metric.compute() == pytest.approx(expected.mean(), abs=1e-12)


def test_the_directions_differ(pairs) -> None:
    one, other = METRICS["two_way"][1](*pairs), METRICS["two_way, image fixed"][1](*pairs)
    assert (one != other).any()


@pytest.mark.parametrize("metric", ["pixcorr", "ssim", "two_way_late", "far"])
def test_a_metric_of_a_protocol_scores_as_the_benchmark_does(pairs, metric) -> None:
    pytest.importorskip("timm")
    spec = {"score": "correlation_distance", "network": "efficientnet_lite0"}
    spec |= {"weights": "imagenet", "layer": "late"}
    resize = dict(vars(Resize(40)))
    protocol = Protocol.parse(
        {
            "schema": 1,
            "name": "p",
            "title": "p",
            "about": "p",
            "front": vars(Resize(32, "pil", "bicubic")),
            "test_set": {},
            "metrics": {
                "pixcorr": {"score": "pixcorr", "resize": resize},
                "ssim": {"score": "ssim"},
                "two_way_late": spec
                | {"score": "two_way", "direction": "image_fixed", "resize": resize},
                "far": spec | {"resize": resize},
            },
        }
    ).only((metric,))
    images, truth = (side.float() for side in pairs)
    sets = [from_arrays(side, range(N), "set") for side in (images, truth)]
    scored = Benchmark(protocol, sets[1], store=None, n_bootstrap=2)
    result = scored.score({"subj01": [sets[0]]}, "Mine")
    stream = streaming(protocol, metric, None)
    for batch in zip(images.split(5), truth.split(5), strict=True):
        stream.update(*batch)
    # A network's float32 features move by 1e-6 with the size of the batch.
    np.testing.assert_allclose(
        stream.per_image(), result.per_image.values[metric], rtol=0, atol=1e-5
    )
    assert stream.higher_is_better == result.metrics[metric].higher_is_better


def test_a_perceptual_distance_of_a_protocol_is_prepared(monkeypatch, pairs) -> None:
    def load(name: str, weights: str, store: object):
        assert (name, weights, store) == ("lpips", "alex", None)
        return distance

    monkeypatch.setattr("brainit_eval.metrics.streaming.load_network", load)
    resize = Resize(12)
    metric = {"score": "perceptual_distance", "network": "lpips", "weights": "alex"}
    texts = {name: "p" for name in ("name", "title", "about")}
    metrics = {"lpips": metric | {"resize": vars(resize)}}
    protocol = Protocol.parse({"schema": 1, **texts, "test_set": {}, "metrics": metrics})
    stream = streaming(protocol, "lpips", None)
    stream.update(*pairs)
    expected = distance(*(resize(side.float()) for side in pairs))
    np.testing.assert_allclose(stream.per_image(), expected, rtol=0, atol=1e-7)
    with pytest.raises(ValueError, match="has no metric 'ssim'"):
        streaming(protocol, "ssim", None)


def test_a_batch_that_is_refused_leaves_no_trace(pairs) -> None:
    images, truth = pairs
    metric = PixelMetric("ssim")
    with pytest.raises(ValueError, match="expected pictures by update, got none yet"):
        metric.compute()
    metric.update(images[:4], truth[:4])
    before = metric.compute()
    spoilt = images[4:6].clone()
    spoilt[1, 0, 0, 0] = float("nan")
    for bad, message in (
        ((spoilt, truth[4:6]), "image 1: holds NaN"),
        ((images[4:6] * 2, truth[4:6]), r"expected values in \[0, 1\]"),
        ((images[4:6], truth[4:7]), "expected the truth's shape"),
        ((images[:0], truth[:0]), "expected 1 images or more"),
        ((images[4:6, :, :9], truth[4:6, :, :9]), "11 pixels"),
    ):
        with pytest.raises(ValueError, match=message):
            metric.update(*bad)
    with pytest.raises(TypeError, match="floating-point"):
        metric.update(images[:2].byte(), truth[:2].byte())
    assert metric.compute() == before
    metric.reset()
    metric.update(images[4:], truth[4:])
    np.testing.assert_array_equal(metric.per_image(), ssim(images[4:], truth[4:]))


def test_features_that_are_no_numbers_are_refused() -> None:
    good = torch.rand(3, 4)
    bad = good.clone()
    bad[1, 1] = float("inf")
    with pytest.raises(ValueError, match="features_true: holds NaN or infinite"):
        correlation_distance(good, bad)
    with pytest.raises(ValueError, match="one shape, 2 columns or more"):
        correlation_distance(good, good[:2])
    with pytest.raises(ValueError, match="one shape, 2 columns or more"):
        correlation_distance(good[:, :1], good[:, :1])
    flat = torch.ones(3, 4)
    np.testing.assert_array_equal(correlation_distance(good, flat), np.ones(3))
