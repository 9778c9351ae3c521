"""Attention of each functional cluster over its own voxels."""

from __future__ import annotations

from brainit_bit.ops.cluster_attention.api import cluster_attention

__all__ = ["cluster_attention"]
