"""`prepare_nsd` against a plain read of the same beta files: megabytes a second and peak memory.

``hatch run bench prepare``. Writes one subject's sessions in NSD's layout and sizes, with known
values, into a temporary folder, and checks first that each route reads what was written. Then every
form of a route in a fresh process (Linux): ours from the files to dataset.h5, and a plain read,
which is all bytes of the beta files once through a buffer; of ``.nii.gz``, all bytes unpacked. Both
start from the disk (the files leave the page cache before each), and then both from the page cache.
Ours and plain take turns, and a ratio is the median of the turns'. One line of JSON comes last; its
speedup is the least over the routes, from the disk, of plain seconds over ours.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import scipy.io
from numpy.typing import NDArray

from brainit_clusters import BrainDataset, NSDConfig, prepare_nsd

BETAS = "betas_fithrf_GLMdenoise_RR"
N_VERTICES = 163_842
GRID = (81, 104, 83)
MASKED = {"fsaverage": 39_548, "func1pt8mm": 15_724}
ROUTES = {"fsaverage": "mgh", "func1pt8mm": "hdf5", "func1pt8mm, packed": "nii.gz"}
TOLERANCE = 4 * 2.0**-11  # float16 of z-scores up to 4
LEAST_SPEED, MOST_MIB = 0.5, 2048.0
BUFFER = 2**24


def write_tree(root: Path, n_sessions: int, n_trials: int, seed: int) -> dict[str, NDArray[Any]]:
    """Write the tree; of each space some voxels' betas [n_all_trials, 5], as they will be read."""
    rng = np.random.default_rng(seed)
    total = n_sessions * n_trials
    n_images = max(2, total // 3)
    order = rng.permutation(np.resize(np.arange(n_images), total))
    write_design(root, order, n_images, n_trials)
    return {
        "fsaverage": write_surface(root, rng, n_sessions, n_trials),
        "func1pt8mm": write_volume(root, rng, n_sessions, n_trials),
        "order": order,
    }


def write_design(root: Path, order: NDArray[np.int64], n_images: int, n_trials: int) -> None:
    """The design, the log and the images of one subject that saw images 1, 2, 3 ..."""
    folder = root / "nsddata/experiments/nsd"
    folder.mkdir(parents=True)
    fields = {
        "masterordering": order[None] + 1.0,
        "subjectim": np.arange(n_images)[None] + 1.0,
        "sharedix": np.array([[1.0]]),
    }
    scipy.io.savemat(folder / "nsd_expdesign.mat", fields)
    log = root / "nsddata/ppdata/subj01/behav/responses.tsv"
    log.parent.mkdir(parents=True)
    rows = [f"1\t{t // n_trials + 1}\t{k + 1}\t{k + 1}" for t, k in enumerate(order)]
    log.write_text("\n".join(["SUBJECT\tSESSION\t73KID\t10KID", *rows]) + "\n")
    stimuli = root / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
    stimuli.parent.mkdir(parents=True)
    with h5py.File(stimuli, "w") as file:
        file["imgBrick"] = np.zeros((n_images, 8, 8, 3), np.uint8)


def write_surface(
    root: Path, rng: np.random.Generator, n_sessions: int, n_trials: int
) -> NDArray[Any]:
    """Both hemispheres: mask, noise and betas; the first five masked vertices' betas."""
    labels = root / "nsddata/freesurfer/fsaverage/label"
    folder = root / f"nsddata_betas/ppdata/subj01/fsaverage/{BETAS}"
    for path in (labels, folder):
        path.mkdir(parents=True)
    shown = []
    for side in ("lh", "rh"):
        chosen = rng.choice(N_VERTICES, MASKED["fsaverage"] // 2, replace=False)
        mask = np.zeros(N_VERTICES, np.float32)
        mask[chosen] = 1
        nib.save(nib.MGHImage(mask[:, None, None], np.eye(4)), labels / f"{side}.nsdgeneral.mgz")
        nib.save(nib.MGHImage(mask[:, None, None], np.eye(4)), folder / f"{side}.ncsnr.mgh")
        for session in range(1, n_sessions + 1):
            with (folder / f"{side}.betas_session{session:02d}.mgh").open("wb") as file:
                header = struct.pack(">7ih", 1, N_VERTICES, 1, 1, n_trials, 3, 0, 1)
                file.write(header.ljust(284, b"\0"))
                for _ in range(n_trials):
                    values = rng.standard_normal(N_VERTICES, np.float32)
                    file.write(values.astype(">f4").tobytes())
                    if side == "lh":
                        shown.append(values[np.sort(chosen)[:5]])
    return np.array(shown)


def write_volume(
    root: Path, rng: np.random.Generator, n_sessions: int, n_trials: int
) -> NDArray[Any]:
    """Mask, noise, and betas in both forms; the first five masked voxels' betas."""
    roi = root / "nsddata/ppdata/subj01/func1pt8mm/roi"
    folder = root / f"nsddata_betas/ppdata/subj01/func1pt8mm/{BETAS}"
    for path in (roi, folder):
        path.mkdir(parents=True)
    # A slab of the brain's back, as visual cortex is: voxels in runs along X.
    inside = np.zeros(GRID, np.int16)
    where = np.argwhere(np.ones((60, 40, 40)))[: MASKED["func1pt8mm"]] + np.array([10, 5, 20])
    inside[tuple(where.T)] = 1
    for path in (roi / "nsdgeneral.nii.gz", folder / "ncsnr.nii.gz"):
        nib.save(nib.Nifti1Image(inside.astype(np.float32), np.eye(4)), path)
    shown = []
    for session in range(1, n_sessions + 1):
        # Few different values in most of the volume: as easy to unpack as real, smooth betas.
        values = rng.integers(-900, 900, (*GRID, n_trials), dtype=np.int16)
        shown.append(values[tuple(where[:5].T)].T / 300)
        image = nib.Nifti1Image(values, np.eye(4))
        stem = folder / f"betas_session{session:02d}"
        with gzip.open(stem.with_suffix(".nii.gz"), "wb", compresslevel=1) as file:
            file.write(image.to_bytes())
        with h5py.File(stem.with_suffix(".hdf5"), "w") as file:
            chunks = (n_trials, 1, 1, 1)
            store = file.create_dataset("betas", values.T.shape, np.int16, chunks=chunks)
            store[:] = values.T
    return np.concatenate(shown)


def route(root: Path, name: str) -> tuple[str, list[Path]]:
    """The space of a route, and its beta files; volumes' other form is put out of the way."""
    space, form = name.partition(",")[0], ROUTES[name]
    folder = root / f"nsddata_betas/ppdata/subj01/{space}/{BETAS}"
    for path in folder.glob("*betas_session*.away"):
        path.rename(path.with_suffix(""))
    if form == "nii.gz":
        for path in folder.glob("betas_session*.hdf5"):
            path.rename(path.with_name(path.name + ".away"))
    return space, sorted(folder.glob(f"*betas_session*.{form}"))


def plain_read(files: list[Path]) -> None:
    """All bytes once; compressed files unpacked."""
    buffer = bytearray(BUFFER)
    for path in files:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while file.readinto(buffer):  # type: ignore[union-attr]
                pass


def evict(files: list[Path]) -> None:
    """Let the system forget what it cached of files."""
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(action: Callable[..., Any], *args: Any) -> dict[str, float]:
    """Seconds, of all cores too, and MiB at the peak; to be run in a fresh process."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    begin, begin_cpu = time.perf_counter(), time.process_time()
    action(*args)
    cpu = time.process_time() - begin_cpu
    return {"s": time.perf_counter() - begin, "cpu_s": cpu, "mib": memory("VmHWM")}


def memory(field: str) -> float:
    """MiB of this process: VmHWM for the most that it held, the interpreter included."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 2**10


def ours(root: Path, space: str, output: Path) -> None:
    """Prepare the subject in one space."""
    prepare_nsd(root, output, NSDConfig(space=space, image_size=8), progress=False)


def fresh(action: Callable[..., Any], *args: Any) -> dict[str, float]:
    """`measure` in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(measure, action, *args).result()


def error_of(output: Path, betas: NDArray[Any], order: NDArray[Any], n_trials: int) -> float:
    """Largest error of the first five voxels against a plain computation in float64."""
    with BrainDataset.open(output) as dataset:
        found = dataset.subject("subj01").betas[:, :5]
    sessions = betas.astype(float).reshape(-1, n_trials, 5)
    z = (sessions - sessions.mean(1, keepdims=True)) / sessions.std(1, keepdims=True)
    z = z.reshape(-1, 5)
    truth = [z[order == image].mean(0) for image in np.unique(order)]
    return float(np.abs(found - truth).max())


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in {"sessions": 1, "trials": 750, "repeats": 3, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--folder", type=Path, help="for the temporary tree; default: the system's")
    chosen = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="bench-prepare-", dir=chosen.folder))
    try:
        rows, errors = run(root, chosen)
    finally:
        shutil.rmtree(root)
    peak = max(row["ours_mib"] for row in rows.values())
    speedup = min(row["speed"] for name, row in rows.items() if name.endswith("disk"))
    gates = {
        **{f"{name}: error": (error, error <= TOLERANCE) for name, error in errors.items()},
        "least speed against a plain read, disk": (speedup, speedup >= LEAST_SPEED),
        "peak MiB": (peak, peak <= MOST_MIB),
    }
    passed = all(good for _, good in gates.values())
    print("gate", "passed" if passed else "failed")
    for name, (value, good) in gates.items():
        print(f"  {name:<40} {value:.3g} {'' if good else 'FAILED'}")
    columns = ("plain MiB/s", "ours MiB/s", "ratio", "of CPU", "plain MiB", "ours MiB")
    print(f"\n{'':<26}" + "".join(f"{column:>12}" for column in columns))
    for name, row in rows.items():
        rates = (row["mib"] / row["plain_s"], row["mib"] / row["ours_s"])
        values = (*rates, row["speed"], row["cpu_speed"], row["plain_mib"], row["ours_mib"])
        print(f"{name:<26}" + "".join(f"{value:>12.3g}" for value in values))
    result = {
        "name": "prepare",
        "gate": "passed" if passed else "failed",
        "speedup": round(speedup, 3),
        "peak_mib": round(peak),
        "routes": {
            name: {key: round(value, 3) for key, value in row.items()} for name, row in rows.items()
        },
        "baseline": "all bytes of the same files, read once (.nii.gz: unpacked)",
        "settings": {k: v for k, v in vars(chosen).items() if k != "folder"},
    }
    print(json.dumps(result))
    sys.exit(not passed)


def run(
    root: Path, chosen: argparse.Namespace
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Times and memory of every route from both starts (the least of some turns); the errors."""
    truth = write_tree(root, chosen.sessions, chosen.trials, chosen.seed)
    rows, errors = {}, {}
    output = root / "dataset.h5"
    for name in ROUTES:
        space, files = route(root, name)
        for start in ("disk", "cache"):
            turns = [turn(root, space, files, output, start) for _ in range(chosen.repeats)]
            rows[f"{name}, {start}"] = summary(files, *zip(*turns, strict=True))
        errors[name] = error_of(output, truth[space], truth["order"], chosen.trials)
    return rows, errors


def turn(
    root: Path, space: str, files: list[Path], output: Path, start: str
) -> tuple[dict[str, float], dict[str, float]]:
    """A plain read and ours."""
    ready = evict if start == "disk" else plain_read
    ready(files)
    plain = fresh(plain_read, files)
    ready(files)
    output.unlink(missing_ok=True)
    return plain, fresh(ours, root, space, output)


def summary(
    files: list[Path], plain: tuple[dict[str, float], ...], own: tuple[dict[str, float], ...]
) -> dict[str, float]:
    """The least seconds and most memory of some turns, and the median of their ratios."""

    def ratio(key: str) -> float:
        return statistics.median(p[key] / o[key] for p, o in zip(plain, own, strict=True))

    return {
        "mib": sum(path.stat().st_size for path in files) / 2**20,
        "plain_s": min(p["s"] for p in plain),
        "ours_s": min(o["s"] for o in own),
        "speed": ratio("s"),
        "cpu_speed": ratio("cpu_s"),
        "plain_mib": max(p["mib"] for p in plain),
        "ours_mib": max(o["mib"] for o in own),
    }


if __name__ == "__main__":
    main()
