"""Rows of betas in blocks that take little memory."""

from __future__ import annotations

from collections.abc import Iterator

_ROW_BYTES = 2**27


def row_blocks(n_rows: int, n_voxels: int) -> Iterator[slice]:
    """Ranges of rows that take little memory in float32."""
    step = max(1, _ROW_BYTES // (4 * max(1, n_voxels)))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))
