"""Every choice that is known to move published scores, held against libraries that others use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity
from torch import Tensor

from brainit_eval import pixcorr, ssim, ssim_columns
from brainit_eval.benchmark import Benchmark
from brainit_eval.feature_cache import FeatureCache
from brainit_eval.pictures.sets import from_arrays
from brainit_eval.protocol import Protocol
from brainit_eval.records.result_parts import WeightsRecord

functional = pytest.importorskip("torchvision.transforms.functional")

TRUTH_PX, IMAGE_PX, N = 425, 512, 3
RECIPE = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}


def smooth(n: int, size: int, seed: int, noise: float = 0.1) -> Tensor:
    """Coloured blobs with edges and noise, 8-bit: detailed enough that every choice shows."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 24, 24, generator=generator)
    blobs = torch.nn.functional.interpolate(coarse, (size, size), mode="nearest")
    speckle = torch.rand(n, 3, size, size, generator=generator)
    return ((1 - noise) * blobs + noise * speckle).mul(255).round().div(255)


@pytest.fixture(scope="module")
def pair() -> tuple[Tensor, Tensor]:
    """What was seen at 425 px, and reconstructions at 512 px."""
    truth = smooth(N, TRUTH_PX, 0)
    larger = torch.nn.functional.interpolate(truth, (IMAGE_PX, IMAGE_PX), mode="bilinear")
    mixed = 0.6 * larger + 0.4 * smooth(N, IMAGE_PX, 1, noise=0.5)
    return mixed.mul(255).round().div(255), truth


def scored(name: str, images: Tensor, truth: Tensor, folder, metrics=("pixcorr", "ssim")):
    protocol = replace(Protocol.load(name), n_images=None).only(metrics)
    ids = list(range(len(truth)))
    benchmark = Benchmark(
        protocol, from_arrays(truth, ids), store=None, cache=FeatureCache(folder), n_bootstrap=2
    )
    return benchmark.score({"s": [from_arrays(images, ids)]}, "M").per_image.values


def by_torchvision(x: Tensor, sizes: list[int], antialias: bool) -> Tensor:
    for size in sizes:
        x = functional.resize(x, [size, size], antialias=antialias)
    return x


def by_pillow(x: Tensor) -> Tensor:
    pixels = (x * 255).round().byte().permute(0, 2, 3, 1).numpy()
    resized = [np.array(Image.fromarray(p).resize((425, 425))) for p in pixels]  # its default
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2) / 255


def skimage_ssim(a: Tensor, b: Tensor, **recipe) -> np.ndarray:
    grey = [[rgb2gray(x.permute(1, 2, 0).double().numpy()) for x in images] for images in (a, b)]
    return np.array(
        [structural_similarity(x, y, **{**RECIPE, **recipe}) for x, y in zip(*grey, strict=True)]
    )


def corrcoef(a: Tensor, b: Tensor) -> np.ndarray:
    flat = zip(a.double().flatten(1).numpy(), b.double().flatten(1).numpy(), strict=True)
    return np.array([np.corrcoef(x, y)[0, 1] for x, y in flat])


REFERENCE = {
    "mindeye2-1000": lambda x: by_torchvision(x, [256, 425], antialias=False),
    "mindeye2-1000-aa": lambda x: by_torchvision(x, [256, 425], antialias=True),
    "native-425": lambda x: by_torchvision(x, [425], antialias=True),
    "braindiffuser-982": by_pillow,
}


@pytest.mark.parametrize("name", list(REFERENCE))
def test_pixel_scores_equal_the_libraries_that_others_use(name, pair, tmp_path) -> None:
    found = scored(name, *pair, tmp_path)
    a, b = (REFERENCE[name](x) for x in pair)
    columns = {"channel_axis": -1} if name == "braindiffuser-982" else {}
    # Resizing is float32 in both; its rounding of 1e-7 is all that may differ.
    np.testing.assert_allclose(found["ssim"], skimage_ssim(a, b, **columns), rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["pixcorr"], corrcoef(a, b), rtol=0, atol=1e-5)


MISTAKES = {
    "no intermediate step": lambda x: by_torchvision(x, [425], antialias=False),
    "another intermediate step": lambda x: by_torchvision(x, [224, 425], antialias=False),
    "compared at 256 px": lambda x: by_torchvision(x, [256], antialias=False),
    "compared at 224 px": lambda x: by_torchvision(x, [256, 224], antialias=False),
    "antialiased as a present torchvision does": lambda x: by_torchvision(x, [256, 425], True),
    "a quarter of a blurred image blended in": lambda x: (
        0.75 * by_torchvision(x, [256, 425], False) + 0.25 * by_torchvision(x, [32, 425], True)
    ),
}


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_each_wrong_size_would_be_seen(mistake: str, pair, tmp_path) -> None:
    found = scored("mindeye2-1000", *pair, tmp_path)["ssim"]
    wrong = skimage_ssim(*(MISTAKES[mistake](x) for x in pair))
    assert np.abs(wrong - found).max() > 1e-3  # a hundred times what the test above allows


@pytest.mark.parametrize(
    "recipe",
    [
        {"data_range": 2.0},
        {"gaussian_weights": False, "win_size": 7, "use_sample_covariance": True},
        {"channel_axis": -1},
    ],
)
def test_each_wrong_recipe_of_ssim_would_be_seen(recipe, pair, tmp_path) -> None:
    found = scored("mindeye2-1000", *pair, tmp_path)["ssim"]
    a, b = (REFERENCE["mindeye2-1000"](x) for x in pair)
    assert np.abs(skimage_ssim(a, b, **recipe) - found).max() > 1e-3


@pytest.mark.parametrize("luma", [(1 / 3, 1 / 3, 1 / 3), (0.299, 0.587, 0.114)])
def test_another_grey_would_be_seen(luma, pair, tmp_path) -> None:
    found = scored("mindeye2-1000", *pair, tmp_path)["ssim"]
    a, b = (REFERENCE["mindeye2-1000"](x) for x in pair)
    grey = [torch.einsum("nchw,c->nhw", x.double(), torch.tensor(luma).double()) for x in (a, b)]
    wrong = [
        structural_similarity(x.numpy(), y.numpy(), **RECIPE) for x, y in zip(*grey, strict=True)
    ]
    assert np.abs(np.array(wrong) - found).max() > 1e-3


@pytest.mark.parametrize(("height", "width"), [(40, 33), (11, 64), (96, 11)])
def test_column_form_equals_scikit_image_with_columns_as_channels(height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(9, 3, height, width, generator=generator, dtype=torch.float64)
    b = torch.rand(9, 3, height, width, generator=generator, dtype=torch.float64)
    b[:4] = 0.7 * a[:4] + 0.3 * b[:4]
    b[4], a[5], b[5] = 0.5, 0.25, 0.25
    expected = skimage_ssim(a, b, channel_axis=-1)
    np.testing.assert_allclose(ssim_columns(a, b), expected, rtol=0, atol=1e-12)
    by_hand = []
    for x, y in zip(a, b, strict=True):  # what 0.17 did: each column is a 1-D signal
        grey = [rgb2gray(z.permute(1, 2, 0).numpy()) for z in (x, y)]
        columns = zip(grey[0].T, grey[1].T, strict=True)
        by_hand.append(np.mean([structural_similarity(p, q, **RECIPE) for p, q in columns]))
    np.testing.assert_allclose(ssim_columns(a, b), by_hand, rtol=0, atol=1e-12)
    if min(height, width) > 11:
        assert (ssim(a, b) - ssim_columns(a, b)).abs()[:4].min() > 0.01


def test_only_the_old_protocol_has_the_old_ssim() -> None:
    forms = {name: Protocol.load(name).metrics["ssim"].score for name in REFERENCE}
    assert {name for name, form in forms.items() if form != "ssim"} == {"braindiffuser-982"}
    assert forms["braindiffuser-982"] == "ssim_columns"


def test_pictures_are_rounded_to_8_bits_not_cut() -> None:
    resize = Protocol.load("braindiffuser-982").metrics["ssim"].resize
    values = torch.arange(256.0).repeat(3, 1)[None, :, :, None].expand(1, 3, 256, 256) / 255
    just_below = (values - 1e-5).clamp(0, 1)  # cut, nearly every pixel would lose a level
    torch.testing.assert_close(replace(resize, size=256)(just_below), values, rtol=0, atol=0)


def test_grey_and_mean_images_show_the_floor_of_ssim(tmp_path) -> None:
    truth = smooth(8, TRUTH_PX, 2, noise=0)
    grey, mean = torch.full_like(truth, 0.5), truth.mean(0, keepdim=True).expand_as(truth)
    assert scored("native-425", grey, truth, tmp_path)["ssim"].mean() > 0.2
    assert scored("native-425", grey, truth, tmp_path)["pixcorr"].tolist() == [0.0] * 8
    assert ssim(mean.contiguous(), truth).mean() > 0.2
    assert pixcorr(mean.contiguous(), truth).mean() > 0.1


class Spy:
    """In a network's place: coarse pixels as features, and a note of what it was shown."""

    record = WeightsRecord("spy", "0" * 64)

    def __init__(self, seen: list[tuple[int, ...]]) -> None:
        self.seen = seen

    def to(self, device) -> None:
        pass

    def __call__(self, images, layers):
        self.seen.append(tuple(images.shape[1:]))
        coarse = torch.nn.functional.adaptive_avg_pool2d(images, 8).flatten(1)
        return {layer: coarse for layer in layers}


SIZES = {
    "alexnet": (256, 224),
    "inception_v3": (342, 224),
    "clip_vit_l14": (224, 224),
    "efficientnet_b1": (255, 224),
    "swav_resnet50": (224, 224),
}
CHOICES = {
    "two_way_alexnet2": ("alexnet", "features.4"),
    "two_way_alexnet5": ("alexnet", "features.11"),
    "two_way_inception": ("inception_v3", "avgpool"),
    "two_way_clip": ("clip_vit_l14", "image_embeds"),
    "effnet": ("efficientnet_b1", "avgpool"),
    "swav": ("swav_resnet50", "avgpool"),
}


@pytest.mark.parametrize("name", list(REFERENCE))
def test_networks_see_whole_pictures_of_the_published_size(name, pair, tmp_path, monkeypatch):
    seen: dict[str, list[tuple[int, ...]]] = {}
    load = lambda network, weights, store: Spy(seen.setdefault(network, []))  # noqa: E731
    monkeypatch.setattr("brainit_eval.benchmark.load_network", load)
    found = scored(name, *pair, tmp_path, tuple(CHOICES))
    for network, (mindeye, brain_diffuser) in SIZES.items():
        size = brain_diffuser if name == "braindiffuser-982" else mindeye
        assert set(seen[network]) == {(3, size, size)}
    specs = Protocol.load(name).metrics
    assert {k: (specs[k].network, specs[k].layer) for k in CHOICES} == CHOICES
    version = "IMAGENET1K_V1" if name == "braindiffuser-982" else "IMAGENET1K_V2"
    assert specs["effnet"].weights == version
    assert not specs["effnet"].higher_is_better
    assert not specs["swav"].higher_is_better
    assert specs["two_way_clip"].direction == "reconstruction_fixed"
    coarse = lambda x: torch.nn.functional.adaptive_avg_pool2d(x, 8)  # noqa: E731
    front = specs["swav"].resize
    protocol_front = Protocol.load(name).front
    a, b = (coarse(front(protocol_front(x) if protocol_front else x)) for x in pair)
    np.testing.assert_allclose(found["swav"], 1 - corrcoef(a, b), rtol=0, atol=1e-6)


def test_perfect_reconstructions_score_exactly_one_at_twelve(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("brainit_eval.benchmark.load_network", lambda *_: Spy([]))
    truth = smooth(12, TRUTH_PX, 3)
    found = scored("native-425", truth, truth, tmp_path, ("two_way_clip", "swav"))
    assert found["two_way_clip"].tolist() == [1.0] * 12  # .909 where the truth is left out twice
    assert np.abs(found["swav"]).max() < 1e-12


def test_the_number_of_test_images_and_their_size_are_part_of_a_protocol(pair) -> None:
    truth = from_arrays(pair[1], range(N))
    for name, n in (
        ("mindeye2-1000", 1000),
        ("mindeye2-1000-aa", 1000),
        ("braindiffuser-982", 982),
    ):
        with pytest.raises(ValueError, match=f"has {n} images, got {N}"):
            Benchmark(Protocol.load(name), truth, store=None)
    small = from_arrays(pair[1][:, :, :256, :256], range(N))
    for name in ("native-425", "braindiffuser-982"):
        with pytest.raises(ValueError, match="425 px, got 256"):
            Benchmark(replace(Protocol.load(name), n_images=None), small, store=None)
