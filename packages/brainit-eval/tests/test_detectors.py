"""Every detector fires on a failure that was made, and stays quiet on the truth."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from brainit_eval.detectors import (
    branch_agreement,
    far_from_training,
    inversion_artefacts,
    over_smoothness,
    weak_categories,
)
from brainit_eval.detectors.spectrum import grid_energy, power_spectrum, spectral_slope
from brainit_eval.pictures.stream import Resized, Taken, batches

SIDE = 64


def natural(n: int, seed: int, side: int = SIDE, exponent: float = 1.0) -> Tensor:
    """Pictures whose amplitude falls as frequency to the power of -exponent."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.fft.fftfreq(side)[:, None]
    radius = (y**2 + torch.fft.rfftfreq(side) ** 2).sqrt().clamp(min=1 / side)
    grey = torch.randn(n, 1, side, side, generator=generator)
    colour = torch.randn(n, 3, side, side, generator=generator)
    noise = torch.fft.rfft2(grey + 0.3 * colour) / radius**exponent
    pictures = torch.fft.irfft2(noise, s=(side, side))
    pictures = pictures / pictures.std((1, 2, 3), keepdim=True)
    return to_8_bits(0.5 + 0.15 * pictures)


def to_8_bits(images: Tensor) -> Tensor:
    return (images.clamp(0, 1) * 255).round() / 255


def gaussian(side: int, sigma: float) -> Tensor:
    """What a Gaussian blur multiplies amplitudes by, ``[side, side // 2 + 1]``."""
    y = torch.fft.fftfreq(side, dtype=torch.float64)[:, None]
    radius2 = y**2 + torch.fft.rfftfreq(side, dtype=torch.float64) ** 2
    return torch.exp(-2 * np.pi**2 * sigma**2 * radius2)


def blurred(images: Tensor, sigma: float) -> Tensor:
    spectrum = torch.fft.rfft2(images.double()) * gaussian(images.shape[-1], sigma)
    return to_8_bits(torch.fft.irfft2(spectrum, s=images.shape[-2:]).float())


def checkerboard(period: int) -> Tensor:
    steps = (torch.arange(SIDE) // (period // 2)) % 2
    return 1 - 2.0 * ((steps[:, None] + steps) % 2)


@pytest.fixture(scope="module")
def truth() -> Tensor:
    return natural(40, 0)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5])
def test_slope_is_that_of_the_pictures(exponent) -> None:
    power = power_spectrum(natural(40, 1, exponent=exponent))
    # Power is amplitude squared. One picture's slope scatters by about 0.2 (rings of few
    # frequencies); the mean of 40 by 0.03, and clipping adds a little.
    slope = spectral_slope(power, SIDE, SIDE).mean().item()
    assert slope == pytest.approx(-2 * exponent, abs=0.15)


@pytest.mark.parametrize("side", [32, 36, 48, 75])
def test_any_size_has_a_slope(side) -> None:
    seen = natural(6, 2, side)
    assert np.isfinite(over_smoothness(seen, seen, n_bootstrap=5).per_image).all()
    assert not over_smoothness(blurred(seen, 1.5), seen, n_bootstrap=50).green


def test_power_of_white_noise_is_its_variance() -> None:
    noise = torch.randn(50, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    # The mean is taken off, which empties the lowest frequencies only.
    assert power_spectrum(0.1 * noise)[:, 4:-4, 4:].mean().item() == pytest.approx(0.01, rel=0.02)
    # The mean of 11 ratios of two means, of about 13 and 150 independent powers at least.
    energy = grid_energy(power_spectrum(noise), SIDE, SIDE).mean().item()
    assert energy == pytest.approx(0, abs=0.05)


def test_both_spectral_detectors_are_quiet_on_the_truth(truth) -> None:
    for detector in (over_smoothness, inversion_artefacts):
        reading = detector(truth, truth, n_bootstrap=100)
        assert reading.green
        assert reading.value == reading.low == reading.high == 0.0


def test_both_spectral_detectors_are_quiet_on_other_pictures_of_the_same_kind(truth) -> None:
    other = natural(40, 7)
    assert over_smoothness(other, truth, n_bootstrap=200).green
    assert inversion_artefacts(other, truth, n_bootstrap=200).green


def test_blur_reads_as_over_smooth_and_as_no_checkerboard(truth) -> None:
    values = []
    for sigma in (0.7, 1.0, 2.0, 8.0):
        images = blurred(truth, sigma)
        reading = over_smoothness(images, truth, n_bootstrap=100)
        assert not reading.green
        assert reading.high < reading.detail["limit"]
        assert inversion_artefacts(images, truth, n_bootstrap=100).green
        values.append(reading.value)
    assert values == sorted(values, reverse=True)  # more blur, steeper


def test_the_slope_of_a_known_blur(truth) -> None:
    """Power is multiplied by the square of what amplitudes are."""
    y = torch.fft.fftfreq(SIDE, dtype=torch.float64)[:, None]
    sharp = 1 / (y**2 + torch.fft.rfftfreq(SIDE, dtype=torch.float64) ** 2).clamp(min=1e-9)
    soft = sharp * gaussian(SIDE, 0.7) ** 2
    slopes = spectral_slope(torch.stack([soft, sharp]), SIDE, SIDE)
    found = over_smoothness(blurred(truth, 0.7), truth, n_bootstrap=50).value
    # What differs: each picture's power within a ring, and the window's leakage.
    assert found == pytest.approx((slopes[0] - slopes[1]).item(), abs=0.03)


@pytest.mark.parametrize("flat", [0.5, 0.0])
def test_flat_pictures_are_the_smoothest(truth, flat) -> None:
    reading = over_smoothness(torch.full_like(truth, flat), truth, n_bootstrap=50)
    assert (reading.per_image == -4).all()
    assert not reading.green


def test_images_seen_without_detail_are_not_judged(truth) -> None:
    seen = truth.clone()
    seen[3] = 0.5
    reading = over_smoothness(truth, seen, n_bootstrap=50)
    assert np.flatnonzero(np.isnan(reading.per_image)).tolist() == [3]
    assert reading.detail["n"] == 39
    assert reading.green
    with pytest.raises(ValueError, match="none of 40 images can be judged"):
        over_smoothness(truth, torch.full_like(truth, 0.5), n_bootstrap=50)


@pytest.mark.parametrize("period", [2, 4])
def test_a_checkerboard_reads_as_an_artefact_and_as_no_blur(truth, period) -> None:
    images = to_8_bits(truth + 0.05 * checkerboard(period))
    reading = inversion_artefacts(images, truth, n_bootstrap=100)
    assert not reading.green
    assert reading.low > reading.detail["limit"]
    assert over_smoothness(images, truth, n_bootstrap=100).green


def test_a_checkerboard_in_colour_or_in_places_is_found(truth) -> None:
    colour = torch.tensor([1.0, -0.5, 0.0]).view(3, 1, 1)  # nearly no luminance
    places = natural(40, 3, exponent=1.5)[:, :1]
    for pattern in (colour * checkerboard(2), places * checkerboard(2)):
        images = to_8_bits(truth + 0.04 * pattern)
        assert not inversion_artefacts(images, truth, n_bootstrap=50).green


def test_an_uneven_transposed_convolution_is_found(truth) -> None:
    """Kernel 3, stride 2: the overlap is uneven, the classic source of checkerboards."""
    small = torch.nn.functional.avg_pool2d(truth, 2).flatten(0, 1)[:, None]
    kernel = torch.full((1, 1, 3, 3), 0.4)
    up = torch.nn.functional.conv_transpose2d(small, kernel, stride=2)[:, :, :SIDE, :SIDE]
    images = to_8_bits(up.reshape(truth.shape))
    assert not inversion_artefacts(images, truth, n_bootstrap=50).green


def test_noise_is_no_checkerboard(truth) -> None:
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
    assert inversion_artefacts(to_8_bits(truth + 0.05 * noise), truth, n_bootstrap=100).green


def test_readings_do_not_depend_on_batches_or_on_what_holds_the_pictures(truth, tmp_path) -> None:
    images = blurred(truth, 1.0)
    alone = [over_smoothness(images[k : k + 2], truth[k : k + 2], n_bootstrap=5) for k in (0, 38)]
    whole = over_smoothness(images, truth, n_bootstrap=50)
    assert np.allclose(alone[1].per_image, whole.per_image[38:], rtol=0, atol=1e-12)
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file["images"] = (images * 255).round().byte().numpy()
        stored = over_smoothness(file["images"], truth, n_bootstrap=50)
    assert np.allclose(stored.per_image, whole.per_image, rtol=0, atol=1e-6)
    assert stored.low == pytest.approx(whole.low, abs=1e-6)  # the same seed, the same draws
    assert over_smoothness(images, truth, n_bootstrap=50, seed=1).low != whole.low


@pytest.mark.parametrize("n", [2, 31, 32, 33, 65, 993])
def test_batches_hold_every_picture_once_and_never_one_of_many(n) -> None:
    pictures = torch.arange(n).div(n).view(n, 1, 1, 1).expand(n, 3, 1, 1)
    parts = list(batches(pictures))
    assert torch.equal(torch.cat(parts), pictures)
    assert 2 <= min(map(len, parts)) <= max(map(len, parts)) <= 32


def test_views_read_what_they_say(truth) -> None:
    order = np.array([5, 0, 5])
    assert torch.equal(Taken(truth, order)[0:3], truth[[5, 0, 5]])
    assert Resized(truth, 32, 48)[0:3].shape == (3, 3, 32, 48)
    assert torch.equal(Resized(truth, SIDE, SIDE)[2:4], truth[2:4])
    with pytest.raises(ValueError, match="rows of 40 images"):
        Taken(truth, np.array([40]))


def test_bad_pictures_are_refused_in_one_line(truth) -> None:
    bad = truth.clone()
    bad[35, 0, 1, 1] = float("nan")
    for images, message in (
        (bad, "image 35: holds NaN"),
        (truth + 0.9, r"image \d+: expected values in \[0, 1\]"),
        (truth[:39], r"expected the truth's shape"),
        (truth.long(), "expected uint8 or floating point"),
    ):
        with pytest.raises(ValueError, match=message):
            over_smoothness(images, truth, n_bootstrap=5)
    with pytest.raises(ValueError, match="32 pixels or more"):
        inversion_artefacts(truth[..., :16, :16], truth[..., :16, :16])


def test_branches_of_one_image_agree(truth) -> None:
    coarse = blurred(truth, 4.0)
    reading = branch_agreement(coarse, truth, n_bootstrap=200)
    assert reading.green
    assert reading.value > 0.99
    assert reading.detail["similarity_own"] > reading.detail["similarity_shuffled"] + 0.5


def test_shuffled_branches_are_found(truth) -> None:
    coarse = Resized(blurred(truth, 4.0).roll(1, 0), 48, 48)
    reading = branch_agreement(coarse, truth, n_bootstrap=200)
    assert not reading.green
    assert reading.value == pytest.approx(0.5, abs=0.2)  # 4 standard errors of 40 uniform ranks
    own, shuffled = (reading.detail[f"similarity_{name}"] for name in ("own", "shuffled"))
    assert own == pytest.approx(shuffled, abs=0.2)


def test_similarities_are_those_of_all_pairs(truth) -> None:
    coarse = blurred(truth, 4.0)
    grids = [torch.nn.functional.adaptive_avg_pool2d(x, 32).flatten(1) for x in (coarse, truth)]
    table = np.corrcoef(*[grid.double().numpy() for grid in grids])[:40, 40:]
    detail = branch_agreement(coarse, truth, n_bootstrap=5).detail
    assert detail["similarity_own"] == pytest.approx(table.diagonal().mean(), abs=1e-6)
    others = table[~np.eye(40, dtype=bool)]
    assert detail["similarity_shuffled"] == pytest.approx(others.mean(), abs=1e-6)


def test_a_weak_category_is_named() -> None:
    generator = np.random.default_rng(0)
    kinds = np.array(["food", "face", "room", "animal"])[generator.integers(0, 4, 200)]
    scores = generator.normal(0.7, 0.1, 200) - 0.15 * (kinds == "food")
    reading = weak_categories(scores, kinds, n_bootstrap=200, n_permutations=500)
    assert not reading.green
    assert reading.detail["worst"] == "food"
    assert reading.low < -0.15 < reading.high < 0
    food = reading.detail["categories"]["food"]
    assert food["mean"] == pytest.approx(scores[kinds == "food"].mean())
    assert reading.value == pytest.approx(food["mean"] - scores[kinds != "food"].mean())
    assert reading.detail["categories"]["face"]["p"] > 0.5
    turned = weak_categories(-scores, kinds, higher_is_better=False, n_permutations=500)
    assert turned.detail["worst"] == "food"
    assert turned.detail["p"] == reading.detail["p"]


def test_corrected_p_of_categories_is_right_without_any_weakness() -> None:
    """Under the null the smallest p is uniform: 300 draws of P(p < 0.2) scatter by 0.023."""
    generator = np.random.default_rng(1)
    kinds = np.repeat(np.arange(5), [4, 6, 8, 10, 12])
    small = [
        weak_categories(
            generator.exponential(size=40), kinds, n_permutations=99, n_bootstrap=2, seed=k
        ).detail["p"]
        for k in range(300)
    ]
    assert np.mean(np.array(small) <= 0.2) == pytest.approx(0.2, abs=0.07)  # 3 standard errors


def test_worse_when_far_from_training_is_found() -> None:
    generator = np.random.default_rng(2)
    distance = generator.uniform(0.1, 0.6, 120).round(2)
    scores = -distance + generator.normal(0, 0.2, 120)
    reading = far_from_training(scores, distance, n_bootstrap=300, n_permutations=500)
    assert not reading.green
    assert reading.value == pytest.approx(spearmanr(scores, distance).statistic, abs=1e-12)
    assert reading.low < reading.value < reading.high < 0
    means = [quarter["mean"] for quarter in reading.detail["quarters"]]
    assert means[0] > means[-1]
    assert sum(quarter["n"] for quarter in reading.detail["quarters"]) == 120


def test_scores_that_do_not_depend_on_distance_or_grow_with_it_are_green() -> None:
    generator = np.random.default_rng(3)
    distance = generator.uniform(size=120)
    for scores in (generator.normal(size=120), distance):
        assert far_from_training(scores, distance, n_bootstrap=50, n_permutations=500).green


def test_bad_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 2 or more"):
        weak_categories([0.1, 0.2], ["a", "a"])
    with pytest.raises(ValueError, match="image 1 has no finite score"):
        weak_categories([0.1, np.nan], ["a", "b"])
    with pytest.raises(ValueError, match=r"categories: expected \[2\], got \[3\]"):
        weak_categories([0.1, 0.2], ["a", "b", "b"])
    with pytest.raises(ValueError, match="8 images or more"):
        far_from_training(np.arange(7.0), np.arange(7.0))


def test_scores_that_are_all_equal_show_no_weakness() -> None:
    for reading in (
        weak_categories(np.ones(20), np.arange(20) % 3, n_bootstrap=20),
        far_from_training(np.ones(20), np.arange(20), n_bootstrap=20),
    ):
        assert reading.green
        assert (reading.value, reading.detail["p"]) == (0, 1)
