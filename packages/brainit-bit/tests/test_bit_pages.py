"""Large pages under large gradients, as the kernel reports them."""

from __future__ import annotations

from mmap import mmap
from pathlib import Path

import pytest
import torch
from torch import Tensor

from brainit_bit.ops._pages import LARGE, on_large_pages

MAPPINGS = Path("/proc/self/smaps")
LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage")


def flags(tensor: Tensor) -> set[str]:
    """Flags of the mapping that holds the middle of a tensor."""
    middle = tensor.data_ptr() + tensor.nbytes // 2
    inside = False
    for line in MAPPINGS.read_text().splitlines():
        first, *rest = line.split()
        if first.count("-") == 1 and not first.endswith(":"):
            begin, end = (int(part, 16) for part in first.split("-"))
            inside = begin <= middle < end
        elif inside and first == "VmFlags:":
            return set(rest)
    raise AssertionError("no mapping holds the tensor")


@pytest.mark.skipif(not LARGE_PAGES.exists(), reason="only some kernels of Linux have large pages")
def test_only_large_tensors_lie_on_large_pages() -> None:
    # The large one is large enough for an allocation of its own in memory not used before.
    large = torch.empty(16 * LARGE, dtype=torch.uint8)
    # A mapping of its own: what torch allocates may lie where a freed large one was.
    small = torch.frombuffer(mmap(-1, LARGE - 1), dtype=torch.uint8)
    assert on_large_pages(large) is large
    assert "hg" in flags(large)
    assert on_large_pages(small) is small
    assert "hg" not in flags(small)
