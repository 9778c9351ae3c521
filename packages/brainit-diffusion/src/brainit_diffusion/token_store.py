"""CLIP tokens on disk: safetensors shards beside a manifest, read by image id.

The 73,000 images of NSD are 62 GB of tokens in float16: they are written once, in a run that may be
killed at any moment and goes on to the same bytes, and read from memory maps.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from brainit_diffusion._files import sha256, write_bytes

FORMAT = 1
SHARD_SIZE = 256
"""Images in a shard: 218 MB of 256 tokens of width 1,664."""

_MANIFEST = "manifest.json"


def write_tokens(
    folder: Path | str,
    ids: Sequence[str],
    encode: Callable[[range], Tensor],
    source: Mapping[str, object],
    *,
    shard_size: int = SHARD_SIZE,
    dtype: torch.dtype = torch.float16,
    progress: bool = False,
) -> TokenStore:
    """Write a store, or go on where one was left.

    Shards get their final names only when they are whole, and count only once the manifest has
    their hash; what is not counted is computed again. So the bytes do not depend on how often the
    writing was stopped, given that `encode` is a pure function.

    Args:
        folder: Where to write; made if need be.
        ids: One name per image, each once.
        encode: Takes rows of `ids`, never of two shards, and returns their tokens [n, T, W].
        source: What made the tokens, as JSON can hold it: kept, and compared before going on.
        shard_size: Images in a shard.
        dtype: Of the stored tokens: float16, bfloat16 or float32.
        progress: Show a bar over the images.

    Returns:
        The finished store.

    Raises:
        ValueError: If ids repeat, the folder holds another store, a shard of it has changed, or
            tokens are not finite or not of one shape.
    """
    folder = Path(folder)
    manifest = _begin(folder, _plan(ids, source, shard_size, dtype))
    done = len(manifest["shards"]) * shard_size
    bar = tqdm(total=len(ids), initial=min(done, len(ids)), unit="image", disable=not progress)
    with bar:
        for first in range(done, len(ids), shard_size):
            rows = range(first, min(first + shard_size, len(ids)))
            tokens = _checked(encode(rows), rows, manifest, dtype)
            name = f"tokens-{len(manifest['shards']):05d}.safetensors"
            content = save({"tokens": tokens})
            write_bytes(folder / name, content)
            digest = hashlib.sha256(content).hexdigest()
            manifest["tokens"] = list(tokens.shape[1:])
            manifest["shards"].append({"file": name, "bytes": len(content), "sha256": digest})
            _write_manifest(folder, manifest)
            bar.update(len(rows))
    return TokenStore(folder)


class TokenStore:
    """Tokens of many images, read by id from memory-mapped shards.

    Args:
        folder: What `write_tokens` wrote.

    Raises:
        FileNotFoundError: If the folder or a shard is missing.
        ValueError: If the store is unfinished, or a shard is not of the size that was written.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.manifest = _read_manifest(self.folder)
        self.ids: list[str] = self.manifest["ids"]
        size = self.manifest["shard_size"]
        n_done, n_shards = len(self.manifest["shards"]), -(-len(self.ids) // size)
        if n_done < n_shards:
            raise ValueError(
                f"{self.folder}: unfinished, {n_done} of {n_shards} shards; run what wrote it again"
            )
        for shard in self.manifest["shards"]:
            _check_size(self.folder, shard)
        self._rows = {name: divmod(row, size) for row, name in enumerate(self.ids)}
        self._maps: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    @property
    def shape(self) -> tuple[int, int, int]:
        """Images, tokens an image, width."""
        count, width = self.manifest["tokens"]
        return len(self), count, width

    @property
    def dtype(self) -> torch.dtype:
        """Type of the stored tokens."""
        found: torch.dtype = getattr(torch, self.manifest["dtype"])
        return found

    def __getitem__(self, name: str) -> Tensor:
        """Tokens [T, W] of one image."""
        return self.read([name])[0]

    def read(self, names: Sequence[str], out: Tensor | None = None) -> Tensor:
        """Tokens [n, T, W] of images by id, in that order and the stored type, on the CPU.

        Args:
            names: Ids.
            out: Where to, such as pinned memory that is used again; None for new memory.

        Raises:
            KeyError: If an id is not in the store.
            ValueError: If `out` is of another shape or type.
        """
        if unknown := [name for name in names if name not in self._rows]:
            raise KeyError(f"{self.folder}: no image {unknown[0]!r}")
        shape = (len(names), *self.shape[1:])
        result = torch.empty(shape, dtype=self.dtype) if out is None else out
        if result.shape != shape or result.dtype != self.dtype:
            raise ValueError(
                f"out: expected {self.dtype} {shape}, got {result.dtype} {tuple(result.shape)}"
            )
        places = (self._rows[name] for name in names)
        if rows := [self._map(shard)[row] for shard, row in places]:
            # One call, in which other threads run.
            torch.stack(rows, out=result)
        return result

    def verify(self) -> None:
        """Read every byte.

        Raises:
            ValueError: If a shard's hash is not the manifest's.
        """
        for shard in self.manifest["shards"]:
            _check_hash(self.folder, shard)

    def _map(self, shard: int) -> Tensor:
        """A shard's tokens [n, T, W], mapped at first use."""
        if shard not in self._maps:
            path = self.folder / self.manifest["shards"][shard]["file"]
            # A view of the file: rows are read when they are copied, and nothing else is.
            self._maps[shard] = safe_open(path, framework="pt").get_tensor("tokens")
        return self._maps[shard]


def _plan(
    ids: Sequence[str], source: Mapping[str, object], shard_size: int, dtype: torch.dtype
) -> dict[str, Any]:
    if not ids or len(set(ids)) != len(ids):
        raise ValueError(f"ids: expected one name per image, each once, got {len(ids)}")
    if shard_size < 1:
        raise ValueError(f"shard_size: expected 1 or more, got {shard_size}")
    return {
        "format": FORMAT,
        "source": json.loads(json.dumps(dict(source))),
        "dtype": str(dtype).removeprefix("torch."),
        "shard_size": shard_size,
        "ids": list(ids),
    }


def _begin(folder: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """The manifest to go on with, its shards checked; a new one where there is none."""
    for left in (*folder.glob(f".{_MANIFEST}.*.tmp"), *folder.glob(".tokens-*.tmp")):
        left.unlink()
    if not (folder / _MANIFEST).exists():
        if folder.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder}: expected an empty folder or a token store")
        manifest = plan | {"tokens": None, "shards": []}
        _write_manifest(folder, manifest)
        return manifest
    manifest = _read_manifest(folder)
    for name, value in plan.items():
        if manifest[name] != value:
            raise ValueError(f"{folder}: holds a store with other {name}; take another folder")
    for shard in manifest["shards"]:
        _check_hash(folder, shard)
    return manifest


def _checked(
    tokens: Tensor, rows: range, manifest: Mapping[str, Any], dtype: torch.dtype
) -> Tensor:
    expected = manifest["tokens"]
    if (
        tokens.ndim != 3
        or len(tokens) != len(rows)
        or expected
        not in (
            None,
            list(tokens.shape[1:]),
        )
    ):
        shape = "T, W" if expected is None else ", ".join(map(str, expected))
        raise ValueError(f"tokens: expected [{len(rows)}, {shape}], got {tuple(tokens.shape)}")
    stored = tokens.detach().to("cpu", dtype).contiguous()
    # NaN and infinity are what the largest magnitude is then; to look at each value is far slower.
    finite = stored.flatten(1).abs().amax(1).isfinite()
    if not finite.all():
        name = manifest["ids"][rows[int((~finite).nonzero()[0])]]
        raise ValueError(f"image {name!r}: tokens hold NaN, or values too large for {dtype}")
    return stored


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    write_bytes(folder / _MANIFEST, json.dumps(manifest, indent=1).encode())


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: expected a token store ({_MANIFEST})")
    try:
        manifest: Any = json.loads(path.read_bytes())
        found = manifest["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: not the manifest of a token store") from error
    if found != FORMAT:
        raise ValueError(f"{path}: format {found}, expected {FORMAT}")
    return dict(manifest)


def _check_size(folder: Path, shard: Mapping[str, Any]) -> None:
    path = folder / shard["file"]
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing, though the manifest names it")
    # A map of a file that is too short would end the process at the first touch.
    if path.stat().st_size != shard["bytes"]:
        raise ValueError(f"{path}: {path.stat().st_size} bytes, expected {shard['bytes']}")


def _check_hash(folder: Path, shard: Mapping[str, Any]) -> None:
    _check_size(folder, shard)
    path = folder / shard["file"]
    if sha256(path) != shard["sha256"]:
        raise ValueError(f"{path}: changed since it was written (SHA-256)")
