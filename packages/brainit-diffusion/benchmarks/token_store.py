"""Write and read rates of the token store at the size of ViT-bigG/14's tokens.

``hatch run bench token-store``: tokens [256, 1664] of some images in float16, random, written in
shards; read back by id in random order, and one shard after the other. Read rates are of files
that the system may still have in its memory, as is the case in training after the first epoch on a
machine with 62 GB to spare; a plain read of the same bytes is the measure. The gate is that every
token comes back, and that the store verifies.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from brainit_diffusion.token_store import TokenStore, write_tokens

N_TOKENS, WIDTH = 256, 1664
NSD_IMAGES = 73_000
IMAGE_BYTES = 2 * N_TOKENS * WIDTH


def timed(step: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    """Write, read, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--shard-size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32, help="images of one random read")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder if none")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        measure(Path(folder) / "store", chosen.images, chosen.shard_size, chosen.batch)


def measure(folder: Path, n_images: int, shard_size: int, batch: int) -> None:
    """Time a store in a folder and end the process."""
    torch.manual_seed(0)
    ids = [str(row) for row in range(n_images)]
    # One shard of noise, turned a little from image to image: made faster than it is written.
    noise = torch.randn(shard_size, N_TOKENS, WIDTH).half()

    def encode(rows: range) -> torch.Tensor:
        return noise[: len(rows)].roll(rows.start, dims=2)

    made = timed(lambda: [encode(range(i, i + shard_size)) for i in range(0, n_images, shard_size)])
    written = timed(lambda: write_tokens(folder, ids, encode, {}, shard_size=shard_size)) - made
    store = TokenStore(folder)
    verified = timed(store.verify)
    order = random.Random(0).sample(ids, len(ids))
    batches = [order[first : first + batch] for first in range(0, n_images, batch)]
    randomly = timed(lambda: [store.read(names) for names in batches])
    in_order = timed(lambda: [store.read(ids[f : f + batch]) for f in range(0, n_images, batch)])
    plain = timed(lambda: [path.read_bytes() for path in folder.glob("*.safetensors")])
    passed = all(
        torch.equal(store[name], encode(range(row, row + 1))[0])
        for name, row in zip(ids[::shard_size], range(0, n_images, shard_size), strict=True)
    ) and torch.equal(store.read(ids[:shard_size]), encode(range(min(shard_size, n_images))))
    rates = {
        "write": n_images / written,
        "read_random": n_images / randomly,
        "read_in_order": n_images / in_order,
        "read_plain": n_images / plain,
        "verify": n_images / verified,
    }
    print(f"{n_images} images of {IMAGE_BYTES / 2**20:.2f} MiB, gate {_word(passed)}")
    for name, rate in rates.items():
        print(f"{name:<16}{rate:>10.0f} images/s{rate * IMAGE_BYTES / 1e9:>8.2f} GB/s")
    print(f"NSD's {NSD_IMAGES:,}: {NSD_IMAGES / rates['write'] / 60:.1f} min to write")
    figures = {f"{name}_images_per_s": round(rate) for name, rate in rates.items()}
    print(json.dumps({"name": "token_store", "gate": _word(passed), **figures}))
    sys.exit(not passed)


def _word(passed: bool) -> str:
    return "passed" if passed else "failed"


if __name__ == "__main__":
    main()
