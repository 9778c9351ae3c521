"""Training scenes of the zoo, rendered once into a folder of plain arrays.

Training reads seeds from `TRAIN_FIRST` on, quality is measured on seeds from `FRESH_FIRST` on; no
simulated stimulus uses either.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainit.simulation.scenes import IMAGE_SIZE, Scene, render

TRAIN_FIRST = 1_000_000_000
TRAIN_COUNT = 24_000
FRESH_FIRST = 3_000_000_000
MAX_OBJECTS = 3
CHUNK = 500


@dataclass(frozen=True)
class SceneTable:
    """Scenes as arrays.

    Attributes:
        images: uint8 [N, 96, 96, 3] (a memory map when read from the cache).
        objects: float32 [N, 3, 4]: sprite index, centre x, centre y and size in pixels, from back
            to front; unused rows are -1.
        captions: N sentences.
    """

    images: NDArray[np.uint8]
    objects: NDArray[np.float32]
    captions: list[str]

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, rows: NDArray[np.int64]) -> Tensor:
        """Images of some rows as float32 [B, 3, 96, 96] in [0, 1]."""
        return to_tensor(self.images[rows])


def to_tensor(images: NDArray[np.uint8]) -> Tensor:
    """uint8 [B, H, W, 3] to float32 [B, 3, H, W] in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255


def scene_table(seeds: Sequence[int]) -> SceneTable:
    """Render the scenes of some seeds in this process."""
    scenes = [render(seed) for seed in seeds]
    return SceneTable(
        np.stack([scene.image for scene in scenes]),
        np.stack([_objects(scene) for scene in scenes]),
        [scene.caption for scene in scenes],
    )


def training_scenes(folder: Path, count: int = TRAIN_COUNT) -> SceneTable:
    """The first `count` training scenes, rendered by two processes if `folder` lacks them.

    Args:
        folder: Cache; holds `images-COUNT.npy`, `objects-COUNT.npy` and `captions-COUNT.json`.
        count: Number of scenes, seeds `TRAIN_FIRST` to `TRAIN_FIRST + count - 1`.
    """
    images, objects, captions = (
        folder / f"{stem}-{count}.{end}"
        for stem, end in (("images", "npy"), ("objects", "npy"), ("captions", "json"))
    )
    if not captions.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _render_into(images, objects, captions, count)
    return SceneTable(
        np.load(images, mmap_mode="r"), np.load(objects), json.loads(captions.read_text())
    )


def _render_into(images: Path, objects: Path, captions: Path, count: int) -> None:
    starts = range(0, count, CHUNK)
    picture_file = images.with_suffix(".tmp")
    shape = (count, IMAGE_SIZE, IMAGE_SIZE, 3)
    pictures = np.lib.format.open_memmap(picture_file, mode="w+", dtype=np.uint8, shape=shape)
    rows: list[NDArray[np.float32]] = []
    texts: list[str] = []
    with ProcessPoolExecutor(2) as pool:
        chunks = [range(TRAIN_FIRST + s, TRAIN_FIRST + min(s + CHUNK, count)) for s in starts]
        for start, table in zip(starts, pool.map(scene_table, chunks), strict=True):
            pictures[start : start + len(table)] = table.images
            rows.append(table.objects)
            texts += table.captions
    pictures.flush()
    os.replace(picture_file, images)
    np.save(objects, np.concatenate(rows))
    # The captions are written last: their presence says that the cache is whole.
    temporary = captions.with_suffix(".tmp")
    temporary.write_text(json.dumps(texts))
    os.replace(temporary, captions)


def _objects(scene: Scene) -> NDArray[np.float32]:
    table = np.full((MAX_OBJECTS, 4), -1, np.float32)
    for row, box in enumerate(scene.boxes):
        table[row] = (box.sprite.index, *box.centre, box.size)
    return table
