"""Limits on how large an object tree becomes for whoever walks it."""

from __future__ import annotations

from typing import Any

from brainit_bit.importing.inert import Record, refuse

MAX_DEPTH = 100
MAX_NODES = 1_000_000


def check_extent(root: object) -> None:
    """Refuse trees that are deep, that hold themselves or that are small only by sharing.

    A pickle may name one list many times: thirty lists of two times the one before are a kilobyte
    and a walk of 2^30 steps. So nodes count as often as a walk meets them. A record may be met
    again inside itself, as graph layers keep such loops; a container may not.

    Raises:
        UnsafeCheckpoint: If the tree breaks a limit.
    """
    _Walk().measure(root, 0)


class _Walk:
    def __init__(self) -> None:
        self._known: dict[int, tuple[int, int]] = {}
        self._open: set[int] = set()

    def measure(self, value: object, depth: int) -> tuple[int, int]:
        """Nodes and levels below and including `value`, which lies `depth` levels down."""
        if id(value) in self._open:
            if not isinstance(value, Record):
                refuse("a container that holds itself")
            return 1, 1
        nodes, levels = self._known.get(id(value)) or self._measure(value, depth)
        if nodes > MAX_NODES:
            refuse(f"an object that unfolds to more than {MAX_NODES} parts")
        if depth + levels > MAX_DEPTH:
            refuse(f"objects nested more than {MAX_DEPTH} deep")
        return nodes, levels

    def _measure(self, value: object, depth: int) -> tuple[int, int]:
        children = _children(value)
        if not children:
            return 1, 1
        if depth >= MAX_DEPTH:
            refuse(f"objects nested more than {MAX_DEPTH} deep")
        self._open.add(id(value))
        parts = [self.measure(child, depth + 1) for child in children]
        self._open.remove(id(value))
        found = 1 + sum(nodes for nodes, _ in parts), 1 + max(levels for _, levels in parts)
        self._known[id(value)] = found
        return found


def _children(value: object) -> list[Any]:
    if isinstance(value, Record):
        return [value.arguments, value.state]
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple)) else []
