"""Kinds of object in simulated scenes, which know what they show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from brainit.run_folder import RunFolder
from brainit.simulation.scenes import render
from brainit_clusters.data.dataset import BrainDataset

KINDS = {
    "people": ("face", "person", "hand", "clothing"),
    "animals": ("mammal", "bird", "sea animal", "insect", "reptile"),
    "food": ("fruit", "vegetable", "dish", "sweet"),
    "places": ("building", "land vehicle", "craft"),
    "tools": ("tool", "instrument", "ball"),
    "plants": ("plant",),
}
_KIND_OF = {category: kind for kind, categories in KINDS.items() for category in categories}


def kinds_of(
    run: RunFolder, dataset: BrainDataset, ids: NDArray[np.int64]
) -> dict[int, frozenset[str]]:
    """Image id -> kinds that it shows; empty where scenes are not simulated.

    A simulated dataset holds a scene's seed where NSD's holds the picture's number in COCO.
    """
    if run.world.profile.simulation is None or dataset.coco_ids is None:
        return {}
    seeds = dataset.coco_ids[np.searchsorted(dataset.image_ids, ids)].tolist()
    return {
        image: frozenset(_KIND_OF[box.sprite.category] for box in render(seed).boxes)
        for image, seed in zip(ids.tolist(), seeds, strict=True)
    }
