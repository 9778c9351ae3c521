"""Batches a second of the loader alone, at the paper's shapes, against what a step takes.

``hatch run bench loader``. Writes files of random numbers in which 8 subjects of 40,000 voxels saw
the same images, external images with predicted responses, and CLIP tokens [256, 1664] of all, then
loads batches as training does: the semantic branch's (128 samples, their tokens) and the low-level
branch's (64 samples, their pictures). First it is checked that threads give the same batches as
plain reads through HDF5, and that memory does not grow with the files. Files are read from the page
cache. A step's rate is given by ``--step-ms``; the default is the README of brainit-bit, semantic
steps of 8 samples in fp32 on an H100. With ``--processes``, DataLoader's worker processes beside.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from brainit.prefetch import prefetched
from brainit.profile import load_profile
from brainit.stages.decoding import DecodingTask, Prepared
from brainit.stages.samples import Draw, Samples
from brainit_clusters.data.dataset import SubjectData, write_dataset
from brainit_clusters.data.external import ExternalWriter
from brainit_diffusion.token_store import TokenStore, write_tokens

N_SUBJECTS, N_VOXELS, SIDE = 8, 40_000, 224
TOKENS = (256, 1664)
README_STEP = 22.5 / 8
"""Milliseconds a sample."""
MOST_GROWTH = 1.05
MIXED = [f"{branch}.external_per_real=1.0" for branch in ("semantic", "low_level")]
"""Else a small world would have smaller batches."""


def write_world(folder: Path, n_images: int, seed: int) -> None:
    """A dataset of so many images, twice as many external ones, and tokens of all."""
    rng = np.random.default_rng(seed)
    n_external = 2 * n_images
    names = [f"subj{number + 1:02d}" for number in range(N_SUBJECTS)]
    betas = rng.standard_normal((n_images, N_VOXELS), np.float32)
    pictures = rng.integers(0, 256, (n_images, SIDE, SIDE, 3), np.uint8)
    subjects = (subject(name, np.roll(betas, 97 * k)) for k, name in enumerate(names))
    write_dataset(folder / "dataset.h5", pictures, np.arange(n_images), subjects, {})
    sizes = dict.fromkeys(names, N_VOXELS)
    shape = (n_external, SIDE, SIDE, 3)
    with ExternalWriter(folder / "external.h5", shape, sizes, "") as writer:
        for part in range(2):
            half = (betas / 2).astype(np.float16)
            responses = {name: np.roll(half, 31 * k + part) for k, name in enumerate(names)}
            writer.write(pictures[::-1], responses)
    noise = torch.randn(TOKENS, generator=torch.Generator().manual_seed(seed))

    def encode(rows: range) -> Tensor:
        return torch.stack([noise.roll(row) for row in rows])

    write_tokens(folder / "tokens", [str(row) for row in range(3 * n_images)], encode, {})


def subject(name: str, betas: NDArray[np.float32]) -> SubjectData:
    """Who saw all images; every 16th validates."""
    n_images, n_voxels = betas.shape
    return SubjectData(
        name=name,
        betas=betas,
        image_id=np.arange(n_images),
        repeats=np.ones(n_images, np.int16),
        split=np.where(np.arange(n_images) % 16, "train", "val"),
        vertex=np.arange(n_voxels, dtype=np.int32),
        hemisphere=np.zeros(n_voxels, np.uint8),
        noise_ceiling=np.ones(n_voxels, np.float32),
    )


class Semantic(DecodingTask):
    """Reads what the semantic branch reads."""

    def __init__(self, folder: Path) -> None:
        super().__init__(*_parts(folder), load_profile("nsd", MIXED).semantic)
        self.store = TokenStore(folder / "tokens")

    def target(self, images: Tensor) -> Tensor:
        """Tokens."""
        return self.store.read([str(row) for row in images.tolist()])


class LowLevel(DecodingTask):
    """Reads what the low-level branch reads where features are not kept."""

    def __init__(self, folder: Path) -> None:
        super().__init__(*_parts(folder), load_profile("nsd", MIXED).low_level)

    def target(self, images: Tensor) -> Tensor:
        """Pictures."""
        return torch.from_numpy(self.samples.images[images.numpy()])


TASKS = {"semantic": Semantic, "low_level": LowLevel}


def _parts(folder: Path) -> Any:
    run: Any = SimpleNamespace(
        output=lambda stage, name: folder / f"{name}.h5", profile=SimpleNamespace(seed=0)
    )
    return None, Samples(run)


def plain(folder: Path, task: DecodingTask, draw: Draw) -> list[NDArray[Any]]:
    """Activations and target of a batch, each row read by HDF5 alone."""
    n_real = task.samples.images.n_real
    with h5py.File(folder / "dataset.h5") as real, h5py.File(folder / "external.h5") as external:
        betas = real[f"subjects/{draw.subject}/betas"]
        predicted = external[f"responses/{draw.subject}"]
        shape = (int((draw.samples < 0).sum()), N_VOXELS)
        noise = iter(np.random.default_rng(draw.seed).standard_normal(shape, np.float32))
        deviation, activations, images = task.samples.noise[draw.subject], [], []
        for row in draw.samples:
            if row >= 0:
                activations.append(betas[row].astype(np.float32))
                images.append(real["images"][row])
            else:
                quiet = predicted[-1 - row].astype(np.float32)
                activations.append(quiet + deviation * next(noise))
                images.append(external["images"][-1 - row])
    if isinstance(task, LowLevel):
        return [np.array(activations), np.array(images)]
    rows = [row if row >= 0 else n_real - 1 - row for row in draw.samples.tolist()]
    return [np.array(activations), np.stack([task.store[str(row)].numpy() for row in rows])]


def arrays(prepared: Prepared) -> list[Tensor]:
    """What a batch holds, as a worker process could send it."""
    return [prepared.batch.activations, prepared.target, prepared.multiplicity]


def same_batches(folder: Path) -> bool:
    """Whether the first batches by threads are those of plain reads, for both branches."""
    for kind in TASKS.values():
        task = kind(folder)
        draws = task.epoch(0)[:3]
        for draw, found in zip(draws, prefetched(draws, task.load, 2), strict=True):
            expected = plain(folder, task, draw)
            if not all(map(np.array_equal, map(np.asarray, arrays(found)), expected)):
                return False
    return True


def measure(folder: Path, branch: str, n_workers: int, processes: bool) -> dict[str, float]:
    """Samples a second over an epoch, and the most MiB taken beyond what the start took."""
    task = TASKS[branch](folder)
    draws = task.epoch(0)
    n_samples = sum(len(draw.samples) for draw in draws)
    with Memory() as memory:
        begin = time.perf_counter()
        if processes:
            batches = iter(_in_processes(task, draws, n_workers))
            n_samples -= len(next(batches)[0])  # the time until they have started is not theirs
            begin = time.perf_counter()
            for _ in batches:
                pass
        else:
            for _ in prefetched(draws, task.load, n_workers):
                pass
        seconds = time.perf_counter() - begin
    return {"samples_s": n_samples / seconds, "mib": memory.grown}


def _in_processes(
    task: DecodingTask, draws: Sequence[Draw], n_workers: int
) -> DataLoader[list[Tensor]]:
    class Loaded(torch.utils.data.Dataset[list[Tensor]]):
        def __len__(self) -> int:
            return len(draws)

        def __getitem__(self, place: int) -> list[Tensor]:
            return arrays(task.load(draws[place]))

    return DataLoader(Loaded(), batch_size=None, num_workers=n_workers)


class Memory:
    """The most memory of this process that is no file's, in MiB beyond that at the start."""

    def __enter__(self) -> Memory:
        self._start, self.grown, self._done = anonymous(), 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self.grown = max(self.grown, anonymous() - self._start)


def anonymous() -> float:
    """MiB of this process that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 2**10


def fresh(function: Callable[..., Any], *args: Any) -> Any:
    """Call in a process of its own; this one, which it is forked from, starts no threads."""
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        return pool.submit(function, *args).result()


def rows(folder: Path, chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every branch, every number of workers."""
    for branch in TASKS:
        for processes in (False, True) if chosen.processes else (False,):
            for n_workers in chosen.workers:
                if n_workers or not processes:
                    turns = [fresh(measure, folder, branch, n_workers, processes) for _ in range(2)]
                    best = max(turn["samples_s"] for turn in turns)
                    mib = max(turn["mib"] for turn in turns)
                    form = "processes" if processes else "threads"
                    row = {"branch": branch, "form": form, "workers": n_workers}
                    yield row | {"samples_s": round(best, 1), "mib": round(mib)}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=128, help="of each subject; default 128")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--step-ms", type=float, default=README_STEP, help="of one sample")
    parser.add_argument("--processes", action="store_true", help="DataLoader's workers beside")
    parser.add_argument("--folder", type=Path, help="for temporary files; default: the system's")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as root:
        small, large = Path(root) / "small", Path(root) / "large"
        for folder, n_images in ((small, chosen.images // 2), (large, chosen.images)):
            folder.mkdir()
            fresh(write_world, folder, n_images, 0)
        same = fresh(same_batches, small)
        mib = [fresh(measure, folder, "semantic", 1, False)["mib"] for folder in (small, large)]
        table = list(rows(large, chosen))
    growth = mib[1] / mib[0]
    passed = same and growth <= MOST_GROWTH
    print(f"gate {'passed' if passed else 'failed'}: batches equal plain reads: {same}; "
          f"memory with twice the files: {growth:.3f} times")  # fmt: skip
    needed = 1e3 / chosen.step_ms
    print(f"{'':<12}{'':<12}{'workers':>8}{'samples/s':>12}{'of a step':>12}{'MiB':>8}")
    for row in table:
        print(
            f"{row['branch']:<12}{row['form']:<12}{row['workers']:>8}{row['samples_s']:>12}"
            f"{row['samples_s'] / needed:>12.2f}{row['mib']:>8}"
        )
    best = {b: max(r["samples_s"] for r in table if r["branch"] == b) for b in TASKS}
    result = {
        "name": "loader",
        "gate": "passed" if passed else "failed",
        "speedup": round(min(best.values()) / needed, 3),
        "memory_ratio": round(growth, 3),
        "needed_samples_s": round(needed, 1),
        "rows": table,
        "baseline": f"a training step of {chosen.step_ms:.3f} ms a sample",
    }
    print(json.dumps(result))
    sys.exit(not passed)


if __name__ == "__main__":
    main()
