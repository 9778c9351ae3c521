"""Scenes: one to three sprites over two textured regions, each a pure function of a seed.

The sprites are Noto emoji (Apache-2.0). A scene knows its caption and the box of every object, so
that simulated category areas, captions for the tiny CLIP and checks on decoding all speak of the
same things.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

IMAGE_SIZE = 96

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (190, 50, 45),
    "orange": (225, 130, 45),
    "yellow": (225, 200, 80),
    "green": (70, 140, 60),
    "turquoise": (60, 165, 160),
    "blue": (55, 95, 185),
    "purple": (125, 70, 155),
    "pink": (225, 145, 175),
    "brown": (120, 80, 50),
    "white": (230, 230, 225),
    "grey": (135, 135, 140),
    "black": (40, 40, 48),
}


@dataclass(frozen=True)
class Sprite:
    """One object type: its name, its category and its index in the sprite table."""

    index: int
    name: str
    category: str


@dataclass(frozen=True)
class Box:
    """An object in a scene: sprite and pixel box (left, top, width and height in pixels)."""

    sprite: Sprite
    left: int
    top: int
    size: int

    @property
    def centre(self) -> tuple[float, float]:
        """Centre (x, y) in pixels."""
        return self.left + self.size / 2, self.top + self.size / 2


@dataclass(frozen=True)
class Scene:
    """A rendered scene: image uint8 [96, 96, 3], its objects from back to front, its caption."""

    image: NDArray[np.uint8]
    boxes: tuple[Box, ...]
    caption: str


@lru_cache(maxsize=1)
def sprites() -> tuple[Sprite, ...]:
    """All 80 sprites, four of each of 20 categories, in a fixed order."""
    return _known("sprites.json", 0)


@lru_cache(maxsize=1)
def novel_sprites() -> tuple[Sprite, ...]:
    """Twelve sprites of three categories that no scene of NSD's kind shows, numbered on."""
    return _known("novel.json", len(sprites()))


def render(seed: int, novel: bool = False) -> Scene:
    """Render the scene of one seed.

    The same seed gives the same bytes. Background: two regions divided by a tilted line, each with
    a texture in two colours. Objects: a first sprite of 36 to 66 pixels and up to two more of 30 to
    46, whose centres keep apart.

    Args:
        seed: Non-negative seed of the scene.
        novel: Show objects of `novel_sprites` in place of the usual ones.

    Returns:
        The scene with its boxes and caption.
    """
    rng = np.random.default_rng([20251025, seed])
    background, ground_text = _background(rng)
    boxes = _place(rng, novel_sprites() if novel else sprites())
    picture = Image.fromarray(background)
    for box in boxes:
        patch = _sprite_picture(box.sprite.index).resize(
            (box.size, box.size), Image.Resampling.LANCZOS
        )
        if rng.random() < 0.5:
            patch = ImageOps.mirror(patch)
        picture.paste(patch, (box.left, box.top), patch)
    objects = " and ".join(
        f"{_article(b.sprite.name)} {b.sprite.name} {_where(b)}" for b in reversed(boxes)
    )
    return Scene(np.asarray(picture), tuple(boxes), f"{objects} {ground_text}")


def _folder() -> resources.abc.Traversable:
    return resources.files("brainit") / "assets" / "sprites"


@lru_cache(maxsize=128)
def _sprite_picture(index: int) -> Image.Image:
    row = (_table("sprites.json") + _table("novel.json"))[index]
    with (_folder() / row["file"]).open("rb") as file:
        return Image.open(file).convert("RGBA")


def _known(file: str, first: int) -> tuple[Sprite, ...]:
    rows = enumerate(_table(file), start=first)
    return tuple(Sprite(index, row["name"], row["category"]) for index, row in rows)


def _table(file: str) -> list[dict[str, str]]:
    table: list[dict[str, str]] = json.loads((_folder() / file).read_text())
    return table


def _place(rng: np.random.Generator, choices: tuple[Sprite, ...]) -> list[Box]:
    boxes: list[Box] = []
    for _ in range(int(rng.choice([1, 2, 3], p=[0.4, 0.4, 0.2]))):
        for _ in range(20):
            size = int(rng.integers(36, 67) if not boxes else rng.integers(30, 47))
            left, top = (int(v) for v in rng.integers(-4, IMAGE_SIZE - size + 5, 2))
            new = Box(choices[int(rng.integers(len(choices)))], left, top, size)
            gaps = [
                np.hypot(*np.subtract(new.centre, b.centre)) - 0.42 * (new.size + b.size)
                for b in boxes
            ]
            if all(gap > 0 for gap in gaps):
                boxes.append(new)
                break
    return boxes


def _article(name: str) -> str:
    return "an" if name[0] in "aeiou" else "a"


def _where(box: Box) -> str:
    x, y = (int(3 * np.clip(v / IMAGE_SIZE, 0, 0.999)) for v in box.centre)
    return f"{('top', 'middle', 'bottom')[y]} {('left', 'centre', 'right')[x]}"


def _background(rng: np.random.Generator) -> tuple[NDArray[np.uint8], str]:
    y, x = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE] / IMAGE_SIZE - 0.5
    angle = rng.normal(0, 0.35) + (np.pi / 2 if rng.random() < 0.35 else 0.0)
    side = np.cos(angle) * y + np.sin(angle) * x - rng.uniform(-0.2, 0.2)
    edge = np.clip(side * IMAGE_SIZE + 0.5, 0, 1)[..., None]
    first, first_text = _region(rng, x, y)
    second, second_text = _region(rng, x, y)
    image = (1 - edge) * first + edge * second
    image *= 1 + rng.uniform(-0.25, 0.25) * x[..., None] + rng.uniform(-0.25, 0.25) * y[..., None]
    return np.clip(image, 0, 255).astype(np.uint8), f"before {first_text} and {second_text}"


def _region(
    rng: np.random.Generator, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], str]:
    name = str(rng.choice(list(PALETTE)))
    colour = np.array(PALETTE[name]) + rng.normal(0, 12, 3)
    contrast = rng.uniform(25, 60) * (1 if colour.mean() < 128 else -1)
    other = colour + contrast * rng.uniform(0.6, 1.4, 3)
    texture = str(rng.choice(list(TEXTURES)))
    mix = TEXTURES[texture](rng, x, y)[..., None]
    return (1 - mix) * colour + mix * other, f"{name} {texture}"


def _rotated(
    rng: np.random.Generator, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    angle, shift = rng.uniform(0, np.pi), rng.uniform(0, 1, 2)
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    return u + shift[0], v + shift[1]


def _plain(
    rng: np.random.Generator, x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    u, _ = _rotated(rng, x, y)
    return np.asarray(np.clip(u - u.mean() + 0.5, 0, 1))


def _stripes(
    rng: np.random.Generator, x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    u, _ = _rotated(rng, x, y)
    return np.asarray(0.5 + 0.5 * np.tanh(3 * np.sin(2 * np.pi * rng.uniform(4, 12) * u)))


def _checks(
    rng: np.random.Generator, x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    u, v = _rotated(rng, x, y)
    frequency = 2 * np.pi * rng.uniform(3, 8)
    return np.asarray(0.5 + 0.5 * np.tanh(4 * np.sin(frequency * u) * np.sin(frequency * v)))


def _dots(
    rng: np.random.Generator, x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    u, v = _rotated(rng, x, y)
    frequency = 2 * np.pi * rng.uniform(4, 9)
    return 0.5 + 0.5 * np.tanh(4 * (np.cos(frequency * u) + np.cos(frequency * v) - 0.7))


def _waves(
    rng: np.random.Generator, x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    u, v = _rotated(rng, x, y)
    bend = 0.06 * np.sin(2 * np.pi * rng.uniform(2, 4) * v)
    return 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(4, 10) * (u + bend))


def _clouds(
    rng: np.random.Generator, x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    frequencies = np.fft.fftfreq(IMAGE_SIZE) * IMAGE_SIZE
    radius = np.maximum(np.hypot(*np.meshgrid(frequencies, frequencies)), 1.0)
    spectrum = np.fft.fft2(rng.normal(size=x.shape)) * radius ** -rng.uniform(1.2, 2.0)
    field = np.fft.ifft2(spectrum).real
    return np.asarray(0.5 + 0.5 * np.tanh((field - field.mean()) / field.std()))


TEXTURES: dict[
    str,
    Callable[[np.random.Generator, NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]],
] = {
    "plain": _plain,
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "waves": _waves,
    "clouds": _clouds,
}
