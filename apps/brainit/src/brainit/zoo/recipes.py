"""The recipes by name, and the one function that the command line calls."""

from __future__ import annotations

import importlib
from pathlib import Path

RECIPES = ("vgg", "clip", "vae", "unet")
"""In the order in which they need each other: the VAE needs the VGG, the UNet CLIP and VAE."""


def train(
    name: str, output: Path, seed: int = 0, steps: int | None = None, resume: bool = True
) -> Path:
    """Train one tiny model from rendered scenes and write it to `output/name`.

    Scenes and checkpoints go under `output/work`. The same seed, steps and number of torch threads
    give the same weights. A recipe that needs another model takes the one under `output`, else the
    shipped one.

    Args:
        name: One of `RECIPES`.
        output: Folder of the models.
        seed: Seed of weights, batches and noise.
        steps: Optimiser steps; the recipe's own number if None.
        resume: Continue from the last checkpoint under `output/work`.

    Returns:
        The folder of the trained model.

    Raises:
        ValueError: If there is no such recipe, or `steps` is not positive.
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe {name!r}: expected one of {', '.join(RECIPES)}")
    if steps is not None and steps < 1:
        raise ValueError(f"steps is {steps}: expected a positive number")
    recipe = importlib.import_module(f"brainit.zoo.{name}")
    folder: Path = recipe.train(
        output, seed=seed, steps=recipe.STEPS if steps is None else steps, resume=resume
    )
    return folder
