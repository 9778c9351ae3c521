"""Results beside published ones, where they are comparable."""

from __future__ import annotations

from brainit_eval.leaderboard.board import Leaderboard, leaderboard
from brainit_eval.leaderboard.published import Number, PublishedRow, load_published
from brainit_eval.leaderboard.text import markdown, terminal

__all__ = [
    "Leaderboard",
    "Number",
    "PublishedRow",
    "leaderboard",
    "load_published",
    "markdown",
    "terminal",
]
