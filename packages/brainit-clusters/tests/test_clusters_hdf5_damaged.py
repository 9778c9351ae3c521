"""Damaged HDF5 files, read in a process with little time and memory: it neither dies nor hangs."""

from __future__ import annotations

import subprocess
import sys

import h5py
import numpy as np
import pytest

# Reads every cut of a file and many changes of it; each gives values, or an error that names it.
READER = """
import random, resource, sys
from pathlib import Path
from brainit_clusters.data.hdf5 import open_dataset

resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + 2**29, held + 2**29))

path, n_changes = Path(sys.argv[1]), int(sys.argv[2])
content, rng = path.read_bytes(), random.Random(0)

def changed():
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 2, 8))):
        damaged[rng.randrange(len(damaged))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    return bytes(damaged)

cuts = [content[:stop] for stop in range(0, len(content), 16)]
refused = 0
for damaged in [*cuts, *(changed() for _ in range(n_changes))]:
    path.write_bytes(damaged)
    try:
        with open_dataset(path, "data/betas", "betas") as betas:
            betas[:]
    except ValueError as error:
        assert str(error).startswith(str(path)) and len(str(error).splitlines()) == 1, error
        refused += 1
print(refused, len(cuts) + n_changes)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory as Linux has")
@pytest.mark.parametrize(
    "filters", [{}, {"compression": "gzip", "shuffle": True, "fletcher32": True}]
)
def test_cut_and_changed_files_neither_kill_nor_hang(tmp_path, filters):
    path = tmp_path / "betas.hdf5"
    with h5py.File(path, "w") as file:
        values = np.arange(60, dtype=np.int16).reshape(6, 10)
        file.create_dataset("data/betas", data=values, chunks=(3, 2), **filters)
    call = [sys.executable, "-c", READER, str(path), "1000"]
    done = subprocess.run(call, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    refused, tried = map(int, done.stdout.split())
    assert 100 < refused < tried
