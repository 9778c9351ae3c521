"""Large pages for a large tensor that is made anew in every step."""

from __future__ import annotations

import ctypes
import mmap

from torch import Tensor

LARGE = 2**24  # bytes; smaller tensors find their pages where another one was


def on_large_pages(tensor: Tensor) -> Tensor:
    """Ask Linux to put a tensor that nobody has written to yet on large pages.

    The kernel hands out the pages of fresh memory one by one, at the first touch of each: for a
    large gradient in pages of 4 KiB that takes several times as long as writing it. This is a hint
    (``madvise``), and nothing but time depends on whether the kernel follows it.

    Args:
        tensor: Contiguous, on any device; only large ones on a CPU are touched.

    Returns:
        The same tensor.
    """
    if tensor.device.type == "cpu" and tensor.nbytes >= LARGE and hasattr(mmap, "MADV_HUGEPAGE"):
        first = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        size = tensor.data_ptr() + tensor.nbytes - first
        madvise = ctypes.CDLL(None).madvise
        madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), mmap.MADV_HUGEPAGE)
    return tensor
