"""What simulated neurons can see: Gabor energy, luminance and colour of a scene, and its objects.

No neural network takes part. All channels are non-negative, as firing rates are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from brainit.simulation.scenes import IMAGE_SIZE, Box

FIELD = 8.4
"""Width of a stimulus in degrees of visual angle, as in NSD."""
GRID = 24
"""Channel maps are GRID x GRID."""
FREQUENCIES = (3.0, 6.0, 10.0, 16.0)
"""Spatial frequencies of the Gabor channels in cycles an image."""
ORIENTATIONS = tuple(np.pi * k / 4 for k in range(4))
SIGNED = ("on", "off", "red", "green", "blue", "yellow")
N_ENERGY = len(FREQUENCIES) * len(ORIENTATIONS)
N_CHANNELS = N_ENERGY + len(SIGNED)
MAX_OBJECTS = 3
_HALF = IMAGE_SIZE // 2
_MARGIN = 8
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class SceneFeatures:
    """Features of n scenes.

    Attributes:
        channels: float32 [n, N_CHANNELS, GRID * GRID]: energies (frequency-major), then ``SIGNED``.
        sprite: Sprite index of each object, int16 [n, MAX_OBJECTS]; -1 where there is none.
        objects: float32 [n, MAX_OBJECTS, 3]: centre (x right, y up) and size in degrees.
    """

    channels: Floats
    sprite: NDArray[np.int16]
    objects: Floats

    def __getitem__(self, rows: NDArray[np.int64]) -> SceneFeatures:
        """Features of some scenes."""
        return SceneFeatures(self.channels[rows], self.sprite[rows], self.objects[rows])


def grid_degrees() -> tuple[Floats, Floats]:
    """Centres (x right, y up) of the grid cells in degrees, each float32 [GRID * GRID]."""
    centre = (np.arange(GRID) + 0.5) / GRID * FIELD - FIELD / 2
    x, y = np.meshgrid(centre, -centre)
    return x.ravel().astype(np.float32), y.ravel().astype(np.float32)


def scene_features(images: NDArray[np.uint8], boxes: Sequence[tuple[Box, ...]]) -> SceneFeatures:
    """Features of scenes.

    Args:
        images: uint8 [n, 96, 96, 3].
        boxes: The objects of each scene.

    Returns:
        Their features.
    """
    maps = np.concatenate([_channels(images[i : i + 100]) for i in range(0, len(images), 100)])
    sprite = np.full((len(images), MAX_OBJECTS), -1, np.int16)
    objects = np.zeros((len(images), MAX_OBJECTS, 3), np.float32)
    for row, scene in enumerate(boxes):
        for slot, box in enumerate(scene):
            x, y = np.divide(box.centre, IMAGE_SIZE) - 0.5
            sprite[row, slot] = box.sprite.index
            objects[row, slot] = x * FIELD, -y * FIELD, box.size / IMAGE_SIZE * FIELD
    return SceneFeatures(maps, sprite, objects)


def _channels(images: NDArray[np.uint8]) -> Floats:
    rgb = _pool(np.divide(images, 255, dtype=np.float32), 2)
    red, green, blue = (rgb[..., i] for i in range(3))
    luminance = rgb.mean(-1)
    energy = _energy(luminance)
    signed = [luminance - 0.5, red - green, blue - (red + green) / 2]
    halves = np.stack([np.maximum(s * map_, 0) for map_ in signed for s in (1, -1)], -1)
    maps = np.concatenate([energy, _pool(halves, 2)], -1)
    return np.ascontiguousarray(maps.reshape(len(maps), GRID * GRID, N_CHANNELS).transpose(0, 2, 1))


def _energy(luminance: Floats) -> Floats:
    """Amplitude of quadrature pairs of Gabors: [n, 48, 48] -> [n, GRID, GRID, N_ENERGY]."""
    padded = np.pad(luminance, ((0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)), mode="reflect")
    spectrum = fft.fft2(padded)
    inner = slice(_MARGIN, _MARGIN + _HALF)
    pairs = (fft.ifft2(spectrum * gabor)[:, inner, inner] for gabor in _gabors(padded.shape[-1]))
    return np.concatenate([_pool(np.abs(pair)[..., None], 2) for pair in pairs], -1)


def _gabors(size: int) -> list[Floats]:
    """One-sided Gabors in the frequency plane: their response is even + i odd."""
    cycles = fft.fftfreq(size) * _HALF
    fx, fy = np.meshgrid(cycles, -cycles)
    filters = []
    for frequency in FREQUENCIES:
        for angle in ORIENTATIONS:
            u, v = np.cos(angle) * fx + np.sin(angle) * fy, np.cos(angle) * fy - np.sin(angle) * fx
            gain = np.exp(-0.5 * ((u - frequency) ** 2 + v**2) / (0.35 * frequency) ** 2)
            gain[0, 0] = 0
            filters.append((2 * gain * frequency).astype(np.float32))
    return filters


def _pool(maps: Floats, factor: int) -> Floats:
    n, height, width, depth = maps.shape
    blocks = maps.reshape(n, height // factor, factor, width // factor, factor, depth)
    return np.asarray(blocks.mean((2, 4), dtype=np.float32))
