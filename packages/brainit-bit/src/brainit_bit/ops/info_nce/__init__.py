"""Symmetric InfoNCE in tiles."""

from __future__ import annotations

from brainit_bit.ops.info_nce.api import info_nce

__all__ = ["info_nce"]
