from __future__ import annotations

import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from brainit_eval import n_way, pixcorr, ssim, two_way
from brainit_eval.benchmark import Benchmark
from brainit_eval.feature_cache import FeatureCache
from brainit_eval.pictures.resize import Resize
from brainit_eval.pictures.sets import Pictures, from_arrays
from brainit_eval.protocol import MetricSpec, Protocol
from brainit_eval.records.result import Result, rank_key
from brainit_eval.records.result_parts import WeightsRecord

N, SIZE = 14, 32
IDS = [5 * k + 1 for k in range(N)]


class Coarse:
    """In a network's place: coarse pixels, as features and as a distance."""

    def __init__(self, calls: list[int] | None = None) -> None:
        self.record = WeightsRecord("coarse", "c" * 64)
        self.calls = [] if calls is None else calls

    def to(self, device) -> None:
        pass

    def __call__(self, images: Tensor, other):
        self.calls.append(len(images))
        if isinstance(other, Tensor):
            return (images - other).abs().mean((1, 2, 3))
        pooled = torch.nn.functional.adaptive_avg_pool2d(images, 4)
        return {layer: pooled.flatten(1) for layer in other}


def protocol() -> Protocol:
    resize = Resize(24)
    identify = MetricSpec(
        "two_way", resize, "alexnet", "IMAGENET1K_V1", "features.4", "reconstruction_fixed"
    )
    return Protocol(
        name="small",
        title="",
        about="",
        test_set="",
        n_images=None,
        truth_size=None,
        front=None,
        metrics={
            "pixcorr": MetricSpec("pixcorr"),
            "ssim": MetricSpec("ssim", resize),
            "two_way_coarse": identify,
            "two_way_other": replace(identify, direction="image_fixed"),
            "distance": replace(identify, score="correlation_distance", direction=""),
            "lpips": MetricSpec("perceptual_distance", resize, "lpips", "alex"),
        },
    )


@pytest.fixture(autouse=True)
def calls(monkeypatch) -> list[int]:
    found: list[int] = []
    monkeypatch.setattr("brainit_eval.benchmark.load_network", lambda *_: Coarse(found))
    return found


def pictures(seed: int, n: int = N) -> Tensor:
    return torch.rand(n, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def mixed(seed: int, share: float = 0.25) -> Tensor:
    """Reconstructions that are right now and then, and all resemble image 0: a hub."""
    return (share * pictures(0) + 0.25 * pictures(0)[:1] + (0.75 - share) * pictures(seed)).float()


def benchmark(folder: Path, truth=None, **options) -> Benchmark:
    truth = from_arrays(pictures(0), IDS) if truth is None else truth
    cache = FeatureCache(folder)
    options = {"n_bootstrap": 200, "batch_size": 4, "cache": cache, **options}
    return Benchmark(protocol(), truth, store=None, **options)


def two_subjects(order=slice(None)) -> dict[str, list[Pictures]]:
    ids = np.array(IDS)[order]
    return {
        subject: [from_arrays(mixed(10 * s + k)[order], ids) for k in range(2)]
        for s, subject in enumerate(("subj01", "subj02"), 1)
    }


def resized(x: Tensor) -> Tensor:
    return torch.nn.functional.interpolate(x, (24, 24), mode="bilinear", antialias=True)


def coarse(x: Tensor) -> Tensor:
    return torch.nn.functional.adaptive_avg_pool2d(resized(x), 4).flatten(1)


def test_every_number_equals_the_plain_computation(tmp_path: Path) -> None:
    result = benchmark(tmp_path).score(two_subjects(), "Mixed")
    truth = pictures(0)
    table = result.per_image
    for s, subject in enumerate(("subj01", "subj02"), 1):
        for sample in range(2):
            images = mixed(10 * s + sample)
            rows = table.rows(subject, sample)
            assert table.image_id[rows].tolist() == [str(i) for i in IDS]
            correlation = np.corrcoef(coarse(truth), coarse(images))[:N, N:]  # true by image
            own = np.diag(correlation)
            expected = {
                "pixcorr": pixcorr(images, truth),
                "ssim": ssim(resized(images), resized(truth)),
                "two_way_coarse": (correlation < own).sum(0) / (N - 1),
                "two_way_other": (own > correlation.T).sum(0) / (N - 1),
                "distance": 1 - own,
                "lpips": (resized(images) - resized(truth)).abs().mean((1, 2, 3)),
            }
            for name, values in expected.items():
                # Features and resizing are float32; sums over 48 of them.
                np.testing.assert_allclose(table.values[name][rows], values, rtol=0, atol=1e-6)
            for metric in ("two_way_coarse", "two_way_other"):
                for direction, matrix in (
                    ("reconstruction_fixed", correlation),
                    ("image_fixed", correlation.T),
                ):
                    ranks = result.ranks[rank_key(subject, sample, metric, direction)]
                    np.testing.assert_array_equal(ranks, (matrix >= own).sum(0) - 1)
    assert result.metrics["two_way_coarse"].value != result.metrics["two_way_other"].value


def test_scores_are_means_over_samples_then_subjects(tmp_path: Path) -> None:
    result = benchmark(tmp_path).score(two_subjects(), "Mixed")
    table = result.per_image
    for name, score in result.metrics.items():
        for subject, value in score.per_subject.items():
            own = table.values[name][table.subject == subject]
            assert value == pytest.approx(own.mean(), abs=1e-12)
        assert score.value == pytest.approx(np.mean(list(score.per_subject.values())), abs=1e-12)
        assert score.low < score.value < score.high
        assert score.higher_is_better == (name not in ("distance", "lpips"))
    ranks = result.ranks[rank_key("subj01", 0, "two_way_coarse")]
    rows = table.rows("subj01", 0)
    assert n_way(ranks, 2) == pytest.approx(table.values["two_way_coarse"][rows].mean(), abs=1e-12)


def test_the_order_of_the_input_does_not_matter(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(N)
    one = benchmark(tmp_path / "a").score(two_subjects(), "Mixed")
    truth = from_arrays(pictures(0)[order[::-1].copy()], np.array(IDS)[order[::-1]])
    other = benchmark(tmp_path / "b", truth).score(two_subjects(order), "Mixed")
    assert other.metrics == one.metrics
    assert other.test_set == one.test_set
    for name, values in one.per_image.values.items():
        np.testing.assert_array_equal(other.per_image.values[name], values)


@pytest.mark.parametrize("batch_size", [1, 5, 13, 100])
def test_the_batch_size_does_not_matter(tmp_path: Path, batch_size: int) -> None:
    images = {"s": [from_arrays(mixed(1), IDS)]}
    one = benchmark(tmp_path).score(images, "Mixed")
    other = benchmark(tmp_path, batch_size=batch_size).score(images, "Mixed")
    for name, values in one.per_image.values.items():
        np.testing.assert_allclose(other.per_image.values[name], values, rtol=0, atol=1e-6)


def test_true_images_pass_through_a_network_once(tmp_path: Path, calls: list[int]) -> None:
    first = benchmark(tmp_path)
    first.score(two_subjects(), "Mixed")
    # The true images once, four sets of reconstructions, and four of pairs for the distance.
    assert sum(calls) == (1 + 4 + 4) * N
    calls.clear()
    benchmark(tmp_path).score(two_subjects(), "Again")
    assert sum(calls) == (4 + 4) * N
    assert len(list(tmp_path.iterdir())) == 1  # features of reconstructions are not kept


def test_other_true_images_or_weights_are_not_taken_from_the_cache(tmp_path, calls, monkeypatch):
    images = {"s": [from_arrays(mixed(1), IDS)]}
    benchmark(tmp_path).score(images, "Mixed")
    changed = pictures(0)
    changed[3, 0, 0, 0] = 0.5
    benchmark(tmp_path, from_arrays(changed, IDS)).score(images, "Mixed")
    assert len(list(tmp_path.iterdir())) == 2
    other = Coarse()
    other.record = WeightsRecord("other", "d" * 64)
    monkeypatch.setattr("brainit_eval.benchmark.load_network", lambda *_: other)
    result = benchmark(tmp_path).score(images, "Mixed")
    assert len(list(tmp_path.iterdir())) == 3
    assert result.weights["alexnet-IMAGENET1K_V1"].sha256 == "d" * 64


def test_pictures_are_read_batch_by_batch_and_let_go(tmp_path: Path) -> None:
    alive, most = [0], [0]

    def down() -> None:
        alive[0] -= 1

    def lazy(seed: int, n: int) -> Pictures:
        def read(rows: range) -> np.ndarray:
            assert len(rows) <= 32  # what the hash of a set takes at a time
            generator = np.random.default_rng(seed + rows.start)
            array = generator.random((len(rows), SIZE, SIZE, 3), dtype=np.float32)
            weakref.finalize(array, down)
            alive[0] += 1
            most[0] = max(most[0], alive[0])
            return array

        return Pictures("lazy", tuple(str(k) for k in range(n)), SIZE, read)

    for n in (20, 80):
        most[0] = 0
        result = benchmark(tmp_path, lazy(0, n)).score({"s": [lazy(1, n)]}, "Noise")
        assert len(result.per_image.subject) == n
        assert alive[0] == 0
        assert most[0] <= 4  # of images and truth, the present batch and the one before


_PEAKS = """
import resource
import numpy as np
from brainit_eval import Benchmark, Pictures, Protocol

def score(n):
    def noise(rows):
        return np.random.default_rng(rows.start).random((len(rows), 64, 64, 3), dtype=np.float32)

    sets = Pictures("noise", tuple(map(str, range(n))), 64, noise)
    protocol = Protocol.load("offline").only(("pixcorr", "ssim"))
    Benchmark(protocol, sets, store=None, n_bootstrap=2).score({"s": [sets]}, "Noise")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

print(score(64), score(320))
"""


def test_the_peak_of_memory_does_not_grow_with_the_number_of_images() -> None:
    """256 images more: their scores take kilobytes, the pictures resized to 256 px 200 MB."""
    run = subprocess.run(
        [sys.executable, "-c", _PEAKS], capture_output=True, text=True, check=True, timeout=300
    )
    few, many = map(float, run.stdout.split())
    assert many - few < 60


def test_a_result_says_all_that_is_needed_to_repeat_it(tmp_path: Path) -> None:
    result = benchmark(tmp_path, test_set="my-set", seed=3).score(two_subjects(), "Mixed")
    assert result.protocol.hash == protocol().hash
    assert result.protocol.settings == protocol().settings
    assert (result.test_set.name, result.test_set.n_images) == ("my-set", N)
    assert (result.device, result.dtype, result.samples) == ("cpu", "float32", 2)
    assert result.options["seed"] == 3
    assert result.options["truth_px"] == result.options["reconstruction_px"] == SIZE
    assert result.versions["torch"] == torch.__version__.split("+")[0]
    assert set(result.weights) == {"alexnet-IMAGENET1K_V1", "lpips-alex"}
    read = Result.read(result.write(tmp_path / "out"))
    assert read.metrics == result.metrics
    assert read.protocol.settings == result.protocol.settings


def test_a_wrong_pairing_is_said(tmp_path: Path) -> None:
    images = 0.7 * pictures(0) + 0.3 * pictures(1)
    right = benchmark(tmp_path).score({"s": [from_arrays(images, IDS)]}, "Right")
    assert right.warnings == ()
    shifted = {"s": [from_arrays(images, np.roll(IDS, 1))], "t": [from_arrays(images, IDS)]}
    (line,) = benchmark(tmp_path).score(shifted, "Shifted").warnings
    assert line.startswith("s: by no measure")
    assert "check the image ids" in line


def test_random_weights_are_said(tmp_path: Path, monkeypatch) -> None:
    random = Coarse()
    random.record = WeightsRecord("random", "e" * 64)
    monkeypatch.setattr("brainit_eval.benchmark.load_network", lambda *_: random)
    result = benchmark(tmp_path).score({"s": [from_arrays(mixed(1), IDS)]}, "Mixed")
    assert "random weights, for tests only: alexnet-IMAGENET1K_V1" in result.warnings[0]


def test_the_same_seed_gives_the_same_intervals(tmp_path: Path) -> None:
    images = {"s": [from_arrays(mixed(1), IDS)]}
    one, two, other = (benchmark(tmp_path, seed=s).score(images, "M").metrics for s in (0, 0, 1))
    assert one == two
    assert one["ssim"].low != other["ssim"].low
    found = two_way(coarse(mixed(1)), coarse(pictures(0)))
    assert one["two_way_coarse"].value == pytest.approx(found.value, abs=1e-12)


def test_bad_input_is_one_clear_line_and_nothing_is_scored(tmp_path: Path, calls) -> None:
    good = from_arrays(mixed(1), IDS)
    holed = mixed(1)
    holed[6, 0, 0, 0] = torch.nan
    cases = [
        ({}, "as many samples each, at least one"),
        ({"s": []}, "as many samples each, at least one"),
        ({"s": [good], "t": [good, good]}, "as many samples each"),
        ({"s": [good], "t": [from_arrays(resized(mixed(1)), IDS)]}, "one size in pixels"),
        ({"s": [from_arrays(mixed(1)[1:], IDS[1:])]}, "1 missing: 1$"),
        ({"s": [from_arrays(holed, IDS, "mine")]}, "mine: image 31: holds NaN"),
    ]
    for images, message in cases:
        with pytest.raises(ValueError, match=message):
            benchmark(tmp_path).score(images, "Mixed")
    with pytest.raises(ValueError, match="truth: has no subject s; got t"):
        benchmark(tmp_path, {"t": good}).score({"s": [good]}, "Mixed")
    with pytest.raises(ValueError, match="test set"):
        benchmark(tmp_path, test_set="../x")
    assert not calls


def test_a_network_that_gives_nan_is_named(tmp_path: Path, monkeypatch) -> None:
    class Broken(Coarse):
        def __call__(self, images, other):
            features = super().__call__(images, other)
            features["features.4"][-1] = torch.nan
            return features

    monkeypatch.setattr("brainit_eval.benchmark.load_network", lambda *_: Broken())
    with pytest.raises(ValueError, match=r"image 16: alexnet gives NaN at features\.4"):
        benchmark(tmp_path).score({"s": [from_arrays(mixed(1), IDS)]}, "Mixed")
    assert list(tmp_path.iterdir()) == []


def test_another_test_set_than_the_protocols_is_refused() -> None:
    fixed = replace(protocol(), test_set="nsd-shared-1000")
    truth = from_arrays(pictures(0), IDS)
    with pytest.raises(ValueError, match="is for test set nsd-shared-1000, got 'mine'"):
        Benchmark(fixed, truth, store=None, test_set="mine")
    assert Benchmark(fixed, truth, store=None).test_set == "nsd-shared-1000"
