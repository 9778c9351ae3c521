"""A simulated Natural Scenes Dataset: rendered scenes, simulated cortex, NSD's own file layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brainit.simulation.config import SimulationConfig

if TYPE_CHECKING:
    from brainit.simulation.nsd_tree import simulate

__all__ = ["SimulationConfig", "simulate"]


def __getattr__(name: str) -> Any:
    if name == "simulate":
        from brainit.simulation.nsd_tree import simulate

        return simulate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
