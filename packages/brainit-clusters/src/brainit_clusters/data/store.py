"""Z-scored sessions on disk, and the rows of a dataset gathered from them.

Two sessions of at most `GROUP_BYTES` are in memory at a time, whatever the number of voxels: one
is z-scored and written while the next one is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from brainit_clusters._files import replacing
from brainit_clusters.data.noise import RepeatNoise
from brainit_clusters.data.rows import row_blocks
from brainit_clusters.data.sessions import Session, normalise

GROUP_BYTES = 2**29


class SessionStore:
    """One subject's sessions, z-scored, each in a file that is whole or not there.

    What is there already is not read again, so an interrupted run goes on where it was.

    Args:
        folder: Where the files are; it must be of these sessions and settings alone.
        sessions: The sessions; all of a subject's trials, each in one of them.
        n_voxels: Columns of every session.
        used: bool [n_trials], see `normalise`.
        apart: bool [n_trials], trials that are z-scored as if their session had held no others.
    """

    def __init__(
        self,
        folder: Path,
        sessions: Sequence[Session],
        n_voxels: int,
        used: NDArray[np.bool_],
        apart: NDArray[np.bool_],
    ) -> None:
        self._folder, self._sessions = folder, sessions
        self._used, self._apart = used, apart
        self._n_voxels = n_voxels
        longest = max(len(session.trials) for session in sessions)
        n_groups = max(1, -(-4 * longest * n_voxels // GROUP_BYTES))
        edges = np.linspace(0, n_voxels, n_groups + 1).astype(int).tolist()
        self._groups = [slice(*pair) for pair in pairwise(edges)]

    def fill(self) -> Iterator[None]:
        """Read and z-score every session that is not there; yields after each one."""
        places = list(product(range(len(self._sessions)), range(len(self._groups))))
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self._read, *places[0])
            for place, after in zip(places, [*places[1:], None], strict=True):
                values = ahead.result()
                if after is not None:
                    ahead = pool.submit(self._read, *after)
                if values is not None:
                    self._write(*place, values)
                    del values  # before the next one is there
                if place[1] == len(self._groups) - 1:
                    yield

    def _read(self, number: int, group: int) -> NDArray[np.float32] | None:
        """Betas of a file that is not there."""
        if self._path(group, number).is_file():
            return None
        return self._sessions[number].read(self._groups[group])

    def _write(self, number: int, group: int, values: NDArray[np.float32]) -> None:
        session = self._sessions[number]
        used, apart = self._used[session.trials], self._apart[session.trials]
        alone = values[apart]  # a copy: what follows works in place
        reason = normalise(values, used, session.where)
        if len(alone):
            reason = np.maximum(reason, normalise(alone, used[apart], session.where))
            values[apart] = alone
        with replacing(self._path(group, number)) as temporary, h5py.File(temporary, "w") as file:
            file["values"], file["reason"] = values, reason

    def reasons(self) -> NDArray[np.uint8]:
        """uint8 [n_sessions, n_voxels], see `normalise`."""
        found = np.empty((len(self._sessions), self._n_voxels), np.uint8)
        for number, row in enumerate(found):
            for group, columns in enumerate(self._groups):
                with h5py.File(self._path(group, number), "r") as file:
                    row[columns] = file["reason"][:]
        return found

    def ncsnr(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Noise-ceiling signal-to-noise ratio a voxel, from the repeats; see `RepeatNoise`.

        Args:
            rows: int [n_trials], the image of each trial.
        """
        noise = RepeatNoise(np.bincount(rows), self._n_voxels)
        for columns, trials, values in self._parts():
            for row, value in zip(rows[trials], values, strict=True):
                noise.add(row, columns, value)
        every = np.ones(self._n_voxels, bool)
        for part in row_blocks(int(rows.max()) + 1, self._n_voxels):
            noise.finish(part, self.gather(rows, every, part))
        return noise.ncsnr

    def gather(
        self, rows: NDArray[np.intp], kept: NDArray[np.bool_], part: slice
    ) -> NDArray[np.float32]:
        """Sums over the trials of each row: float32 [n, n_kept].

        Args:
            rows: int [n_trials], the row that each trial is part of; -1: none.
            kept: bool [n_voxels], the voxels to take.
            part: A range of rows.
        """
        sums = np.zeros((part.stop - part.start, self._n_voxels), np.float32)
        for columns, trials, values in self._parts():
            here = rows[trials] - part.start
            for place in np.flatnonzero((here >= 0) & (here < len(sums))):
                sums[here[place], columns] += values[place]
        return sums if kept.all() else sums[:, kept]

    def _parts(self) -> Iterator[tuple[slice, NDArray[np.intp], NDArray[np.float32]]]:
        """Columns, trials and z-scores of every file, mapped: they lie in one piece."""
        for number, session in enumerate(self._sessions):
            for group, columns in enumerate(self._groups):
                path = self._path(group, number)
                with h5py.File(path, "r") as file:
                    start, shape = file["values"].id.get_offset(), file["values"].shape
                values = np.asarray(np.memmap(path, np.float32, "r", start, shape))
                yield columns, session.trials, values

    def _path(self, group: int, number: int) -> Path:
        return self._folder / f"session{number:03d}-{group}.h5"


class Rows:
    """Rows of a dataset that are gathered as they are sliced; float32 [n_rows, n_voxels].

    Args:
        store: The sessions.
        rows: int [n_trials], the row that each trial is part of; -1: none.
        kept: bool [n_voxels], the voxels to take.
    """

    def __init__(
        self, store: SessionStore, rows: NDArray[np.intp], kept: NDArray[np.bool_]
    ) -> None:
        self._store, self._rows, self._kept = store, rows, kept
        self._counts = np.bincount(rows[rows >= 0]).astype(np.float32)
        self.shape = (len(self._counts), int(kept.sum()))

    def __getitem__(self, part: slice) -> NDArray[np.float32]:
        part = slice(*part.indices(self.shape[0]))
        values = self._store.gather(self._rows, self._kept, part)
        values /= self._counts[part, None]
        return values
