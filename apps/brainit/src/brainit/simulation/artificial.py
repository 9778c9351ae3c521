"""Artificial images: gratings, noise, words, coloured noise; each a pure function of a seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from brainit.simulation.scenes import IMAGE_SIZE

Picture = NDArray[np.uint8]
GREY = 128.0
_TEXT = """
apple arm band bird boat book cake camp coat corn desk door dust farm fire fish food game gift gold
hand hill horn iron jump king lake leaf lion milk moon nest note park rain ring road rope sand ship
snow song star wind
"""


def grating(rng: np.random.Generator, _: int) -> Picture:
    """A sinusoid in a soft round window, 2 to 20 cycles an image."""
    x, y = _plane()
    angle, frequency = rng.uniform(0, np.pi), 2 * 10 ** rng.uniform(0, 1)
    phase = 2 * np.pi * (frequency * (np.cos(angle) * x + np.sin(angle) * y) + rng.uniform())
    window = 1 / (1 + np.exp((np.hypot(x, y) - 0.42) * 60))
    return _grey(GREY + 120 * window * np.sin(phase))


def noise(rng: np.random.Generator, _: int) -> Picture:
    """Grey noise whose amplitude falls with frequency, from white to brown."""
    return _grey(GREY + 50 * _field(rng, rng.uniform(0, 2)))


def coloured_noise(rng: np.random.Generator, _: int) -> Picture:
    """Noise of its own in each colour."""
    exponent = rng.uniform(0.5, 2)
    return _clip(GREY + 50 * np.stack([_field(rng, exponent) for _ in range(3)], -1))


def word(rng: np.random.Generator, number: int) -> Picture:
    """A word, black or white on grey, about where the eye rests."""
    picture = Image.new("L", (IMAGE_SIZE, IMAGE_SIZE), round(GREY))
    font = ImageFont.load_default(int(rng.integers(20, 31)))
    place = tuple(IMAGE_SIZE / 2 + rng.uniform(-10, 10, 2))
    words, colour = _TEXT.split(), int(rng.choice([0, 255]))
    text = words[number % len(words)]
    ImageDraw.Draw(picture).text(place, text, fill=colour, font=font, anchor="mm")
    return _grey(np.asarray(picture, float))


DRAW: dict[str, Callable[[np.random.Generator, int], Picture]] = {
    "Gratings": grating,
    "Noise": noise,
    "Words": word,
    "Coloured noise": coloured_noise,
}


def _plane() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, x = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE] / IMAGE_SIZE - 0.5
    return x, y


def _field(rng: np.random.Generator, exponent: float) -> NDArray[np.float64]:
    """Noise of unit variance with amplitude 1 / frequency^exponent."""
    frequency = np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(IMAGE_SIZE) * IMAGE_SIZE]))
    spectrum = np.fft.fft2(rng.normal(size=frequency.shape)) / np.maximum(frequency, 1) ** exponent
    field = np.fft.ifft2(spectrum).real
    return np.asarray((field - field.mean()) / field.std())


def _grey(values: NDArray[np.float64]) -> Picture:
    return np.repeat(_clip(values)[..., None], 3, axis=-1)


def _clip(values: NDArray[np.float64]) -> Picture:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
