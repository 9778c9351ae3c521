"""HDF5 files of other people: datasets that hold their own values, by filters that h5py brings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from brainit_clusters._files import existing
from brainit_clusters.data.scans import reading

_FILTERS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32,
            h5py.h5z.FILTER_SZIP, h5py.h5z.FILTER_LZF)  # fmt: skip

_CHECKSUM_BYTES = 4
"""HDF5 2.0 reads past the end of a chunk that is smaller than its checksum, and crashes."""


@contextmanager
def open_dataset(path: Path, name: str, what: str) -> Iterator[h5py.Dataset]:
    """Open one dataset of a file for reading; an error of the body counts as the file's.

    Args:
        path: The file.
        name: The dataset.
        what: What it should hold, for messages.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, or see `dataset_in`.
    """
    existing(path, what)
    with reading(path), h5py.File(path, "r") as file:
        yield dataset_in(file, path, name)


def dataset_in(file: h5py.File, path: Path, name: str) -> h5py.Dataset:
    """A dataset whose values lie in this file and were written to it.

    Raises:
        ValueError: if there is none of that name, or it is linked to, virtual or stored in another
            file, compressed by a filter that is not h5py's own, or nothing but a header.
    """
    node: Any = file
    for part in name.strip("/").split("/"):
        if not isinstance(node, h5py.Group) or part not in node:
            raise ValueError(f"{path}: no dataset {name}")
        if isinstance(node.get(part, getlink=True), h5py.ExternalLink):
            raise ValueError(f"{path}: dataset {name} lies in another file")
        node = node[part]
    if not isinstance(node, h5py.Dataset):
        raise ValueError(f"{path}: {name} is a group, expected a dataset")
    if node.is_virtual or node.external:
        raise ValueError(f"{path}: dataset {name} lies in another file")
    made = node.id.get_create_plist()
    codes = [made.get_filter(index)[0] for index in range(made.get_nfilters())]
    for code in codes:
        if code not in _FILTERS:
            raise ValueError(f"{path}: dataset {name} is compressed by a foreign filter ({code})")
    if h5py.h5z.FILTER_FLETCHER32 in codes and _has_chunk_below(node, _CHECKSUM_BYTES):
        raise ValueError(f"{path}: dataset {name} has a chunk without its checksum")
    # A header of a few bytes can claim terabytes; memory is taken for what was written only.
    if node.size and not _is_written(node):
        raise ValueError(f"{path}: dataset {name} {node.shape} holds no values, only a header")
    return node


def _has_chunk_below(dataset: h5py.Dataset, n_bytes: int) -> bool:
    return dataset.id.chunk_iter(lambda chunk: chunk.size < n_bytes or None) is not None


def _is_written(dataset: h5py.Dataset) -> bool:
    """Whether it holds any value. Its size on disk would say so too, after a walk of all chunks."""
    if dataset.chunks is None:
        return bool(dataset.id.get_storage_size())
    return dataset.id.chunk_iter(lambda _: True) is not None
