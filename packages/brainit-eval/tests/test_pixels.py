from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity

from brainit_eval import pixcorr, ssim


def skimage_ssim(images: torch.Tensor, truth: torch.Tensor) -> np.ndarray:
    grey = [
        [rgb2gray(x.permute(1, 2, 0).numpy()) for x in batch.double()] for batch in (images, truth)
    ]
    return np.array(
        [
            structural_similarity(
                a,
                b,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=1.0,
            )
            for a, b in zip(*grey, strict=True)
        ]
    )


def pairs(dtype: torch.dtype, height: int = 40, width: int = 33) -> tuple[torch.Tensor, ...]:
    """Independent noise, noisy copies, swapped copies and constants: low, high and odd scores."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(36, 3, height, width, generator=generator, dtype=dtype)
    other = torch.rand(36, 3, height, width, generator=generator, dtype=dtype)
    other[:12] = (0.7 * noise[:12] + 0.3 * other[:12]).clamp(0, 1)
    other[12:24] = noise[12:24].flip(0)
    noise[30], other[31] = 0.25, 0.75
    noise[32] = other[32] = 0.5
    noise[33] = other[33]
    return noise, other


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_ssim_equals_scikit_image(dtype: torch.dtype) -> None:
    # Rounding of about 2e-16 per operation, divided by C2 = 9e-4 at worst.
    images, truth = pairs(dtype)
    expected = skimage_ssim(images, truth)
    assert expected.min() < 0.05
    assert expected.max() > 0.99  # the inputs tell recipes apart
    np.testing.assert_allclose(ssim(images, truth).numpy(), expected, rtol=0, atol=1e-12)


def test_ssim_is_one_only_for_the_same_image() -> None:
    images, truth = pairs(torch.float64)
    values = ssim(images, truth)
    assert values[[32, 33]].tolist() == pytest.approx([1.0, 1.0], abs=1e-12)
    assert (values[:30] < 0.99).all()


def test_ssim_refuses_images_smaller_than_its_window() -> None:
    with pytest.raises(ValueError, match="11 pixels"):
        ssim(torch.rand(2, 3, 10, 40), torch.rand(2, 3, 10, 40))


def test_pixcorr_equals_corrcoef_over_pixels_and_colours() -> None:
    images, truth = pairs(torch.float32)
    varied = [k for k in range(36) if k not in (30, 31, 32)]
    expected = [
        np.corrcoef(images[k].double().flatten(), truth[k].double().flatten())[0, 1] for k in varied
    ]
    # float64 sums over 4,000 values: rounding below 4000 * 1.1e-16.
    np.testing.assert_allclose(pixcorr(images, truth)[varied], expected, rtol=0, atol=1e-12)


def test_pixcorr_of_a_constant_image_is_zero_not_nan() -> None:
    images, truth = pairs(torch.float32)
    assert pixcorr(images, truth)[[30, 31, 32]].tolist() == [0.0, 0.0, 0.0]


def test_pixcorr_keeps_its_precision_on_a_bright_flat_image() -> None:
    generator = torch.Generator().manual_seed(1)
    images = 0.9 + 1e-3 * torch.rand(2, 3, 32, 32, generator=generator)
    truth = 0.9 + 1e-3 * torch.rand(2, 3, 32, 32, generator=generator)
    expected = [
        np.corrcoef(a.double().flatten(), b.double().flatten())[0, 1]
        for a, b in zip(images, truth, strict=True)
    ]
    np.testing.assert_allclose(pixcorr(images, truth), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("metric", [pixcorr, ssim])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x: x[:1], ValueError, "2 images or more"),
        (lambda x: x[:, :1], ValueError, "n, 3, H, W"),
        (lambda x: x[:3], ValueError, "truth's shape"),
        (lambda x: x * 255, ValueError, r"\[0, 1\]"),
        (lambda x: x - 0.5, ValueError, r"\[0, 1\]"),
        (lambda x: torch.where(x > 0.99, torch.nan, x), ValueError, "NaN"),
        (lambda x: (x * 255).byte(), TypeError, "floating-point"),
        (lambda x: x.numpy(), TypeError, "floating-point"),
    ],
)
def test_bad_images_give_one_clear_line(metric, change, error, message) -> None:
    good = torch.rand(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    with pytest.raises(error, match=message) as caught:
        metric(change(good), good)
    assert "\n" not in str(caught.value)


def test_a_bad_truth_is_named() -> None:
    good = torch.rand(4, 3, 24, 24)
    with pytest.raises(ValueError, match="truth of images: image 0: holds NaN"):
        pixcorr(good, torch.full_like(good, torch.nan))
