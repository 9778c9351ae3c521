"""`brainit-eval leaderboard`: your results beside published ones of the same protocol."""

from __future__ import annotations
