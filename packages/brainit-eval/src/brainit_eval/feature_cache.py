"""Features on disk: written row by row, read memory-mapped, keyed by all that they depend on."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from torch import Tensor

from brainit_eval.records.writing import replacing

Batches = Callable[[], Iterator[Mapping[str, Tensor]]]
"""Makes the batches: layer to ``[k, D]`` float32, rows in order."""


class FeatureCache:
    """A folder of feature files."""

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        """Choose the folder.

        Args:
            folder: Folder, made if needed. None: ``brainit-eval`` in the user's cache folder.
        """
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        self.folder = Path(home, "brainit-eval") if folder is None else Path(folder)

    def get(self, key: Mapping[str, str], rows: int, batches: Batches) -> dict[str, Tensor]:
        """Features from the file, which is made first where it is not there.

        Args:
            key: All that the features depend on, such as the hashes of protocol, weights and
                image set.
            rows: Number of images.
            batches: Makes the features, if they have to be made.

        Returns:
            Layer to ``[rows, D]`` float32, memory-mapped.

        Raises:
            ValueError: If a file of that key is damaged; remove it.
        """
        text = json.dumps(dict(key), sort_keys=True)
        path = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.safetensors"
        if not path.is_file():
            write_features(path, rows, batches())
        return read_features(path)


def write_features(path: Path, rows: int, batches: Iterator[Mapping[str, Tensor]]) -> None:
    """Write a safetensors file batch by batch; only one batch is in memory.

    Args:
        path: File; its folder is made if needed.
        rows: Rows in all.
        batches: Layer to ``[k, D]`` float32.

    Raises:
        ValueError: If there are not ``rows`` rows.
    """
    with replacing(path) as part, part.open("wb") as file:
        starts: dict[str, int] = {}
        done = 0
        for batch in batches:
            if not starts:
                header, starts = _layout(batch, rows)
                file.write(header)
            for layer, values in batch.items():
                file.seek(starts[layer] + done * values.shape[1] * 4)
                file.write(values.contiguous().cpu().numpy().astype("<f4").tobytes())
            done += len(next(iter(batch.values())))
        if done != rows:
            raise ValueError(f"{path}: expected {rows} rows of features, got {done}")


def read_features(path: Path) -> dict[str, Tensor]:
    """Layer to ``[rows, D]`` float32, memory-mapped.

    Raises:
        ValueError: If the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {layer: file.get_tensor(layer) for layer in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged, remove it: {error}") from None


def _layout(batch: Mapping[str, Tensor], rows: int) -> tuple[bytes, dict[str, int]]:
    """Header of the safetensors file, and where in the file each layer starts."""
    entries: dict[str, object] = {}
    offset = 0
    for layer, values in batch.items():
        end = offset + rows * values.shape[1] * 4
        entries[layer] = {
            "dtype": "F32",
            "shape": [rows, values.shape[1]],
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    header = struct.pack("<Q", len(text)) + text
    starts = {layer: len(header) + e["data_offsets"][0] for layer, e in entries.items()}  # type: ignore[index]
    return header, starts
