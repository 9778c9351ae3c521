"""Recipes of the tiny models that ship with Brain-IT, trained on rendered scenes alone."""

from __future__ import annotations

from brainit.zoo.recipes import RECIPES, train

__all__ = ["RECIPES", "train"]
