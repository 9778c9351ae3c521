"""Chance with the cortex's smoothness kept: labels turned about the sphere (the spin test)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from sklearn.metrics import adjusted_rand_score

from brainit_clusters.analysis._labels import Labels, aligned
from brainit_clusters.analysis.significance import permutation_p
from brainit_clusters.data.record import SubjectData

_MIRROR = np.diag([-1.0, 1.0, 1.0])
_PROBES = 200
_ATTEMPTS = 2000


class Spins:
    """Random rotations of the cortex's sphere and where they bring each voxel's label from.

    Both hemispheres turn by one rotation, mirrored for the right, and all subjects by the same,
    so what is alike in hemispheres and subjects stays so (Alexander-Bloch et al., 2018). A voxel
    takes the label of the vertex nearest to its turned place. Where that vertex is no voxel of
    the subject (medial wall, outside the mask) the voxel has no label and is left out of the
    statistic; rotations that leave more than 1 - `least_covered` of the voxels without a label
    are drawn again. Left-out voxels make the control wider: the test errs on the safe side.

    Args:
        subjects: Whose voxels, on one mesh.
        spheres: Left and right, [V, 3] vertices about the origin (`load_vertices`).
        n: How many rotations.
        seed: Of the rotations.
        least_covered: Share of voxels that must keep a label, in (0, 1].

    Raises:
        ValueError: if a voxel is not a vertex of the spheres, or these are not spheres.
    """

    def __init__(
        self,
        subjects: Sequence[SubjectData],
        spheres: Sequence[ArrayLike],
        n: int = 1000,
        seed: int = 0,
        least_covered: float = 0.5,
    ) -> None:
        if n < 1 or not 0 < least_covered <= 1:
            raise ValueError(f"n is {n} and least_covered {least_covered}, expected >= 1, (0, 1]")
        self.n, self.seed, self.least_covered = n, seed, least_covered
        self._spheres = [_unit_sphere(sphere) for sphere in spheres]
        self._trees = [cKDTree(sphere) for sphere in self._spheres]
        self._places = {subject.name: _places(subject, self._spheres) for subject in subjects}

    def __iter__(self) -> Iterator[dict[str, NDArray[np.intp]]]:
        """Yield `n` times, the same each time: subject -> [N_s] source voxels, -1 for none.

        Raises:
            ValueError: if hardly any rotation keeps enough voxels labelled.
        """
        rng = np.random.default_rng(self.seed)
        used = [
            np.unique(np.concatenate([np.flatnonzero(where[side] >= 0) for where in self._where()]))
            for side in range(2)
        ]
        known = [np.isin(np.arange(len(s)), u) for s, u in zip(self._spheres, used, strict=True)]
        probes = [vertices[:: max(1, len(vertices) // _PROBES)] for vertices in used]
        for _ in range(self.n):
            for _ in range(_ATTEMPTS):
                turn = Rotation.random(random_state=rng).as_matrix()
                found = [known[side][self._source(side, turn, probes[side])] for side in range(2)]
                if np.concatenate(found).mean() >= self.least_covered:
                    break
            else:
                raise ValueError(
                    f"no rotation of {_ATTEMPTS} keeps {self.least_covered:.0%} of the voxels "
                    "labelled; expected a larger mask or a smaller least_covered"
                )
            yield self._turned(turn, used)

    def _where(self) -> list[list[NDArray[np.intp]]]:
        """Each subject's voxel at each vertex of both hemispheres, -1 for none."""
        return [place.voxel for place in self._places.values()]

    def _source(
        self, side: int, turn: NDArray[np.float64], vertices: NDArray[np.intp]
    ) -> NDArray[np.intp]:
        """Vertices nearest to the turned places of vertices."""
        matrix = turn if side == 0 else _MIRROR @ turn @ _MIRROR
        nearest: NDArray[np.intp] = self._trees[side].query(
            self._spheres[side][vertices] @ matrix.T
        )[1]
        return nearest

    def _turned(
        self, turn: NDArray[np.float64], used: list[NDArray[np.intp]]
    ) -> dict[str, NDArray[np.intp]]:
        maps = []
        for side, vertices in enumerate(used):
            source = np.full(len(self._spheres[side]), -1, np.intp)
            source[vertices] = self._source(side, turn, vertices)
            maps.append(source)
        result = {}
        for name, place in self._places.items():
            voxels = np.empty(len(place.vertex), np.intp)
            for side in range(2):
                mine = place.hemisphere == side
                voxels[mine] = place.voxel[side][maps[side][place.vertex[mine]]]
            result[name] = voxels
        return result


@dataclass(frozen=True, eq=False)
class SpunAgreement:
    """Agreement of two labellings against one of them turned about the sphere.

    Attributes:
        adjusted_rand: Of the labellings as they are.
        control: float64 [n], with the second one turned, over the voxels that keep a label.
        p: One-sided (more alike than turned), at least 1 / (1 + n).
    """

    adjusted_rand: float
    control: NDArray[np.float64]
    p: float


def spun_agreement(first: Labels, second: Labels, spins: Spins) -> SpunAgreement:
    """Test whether two labellings agree more than their smoothness alone makes them.

    Args:
        first: Clusters, or subject -> int [N_s].
        second: The same, such as an atlas; this one is turned.
        spins: Of the same subjects.

    Raises:
        ValueError: if they are not of the same voxels.
    """
    ours, theirs, slices = aligned(first, second)
    same = float(adjusted_rand_score(ours, theirs))
    control = np.empty(spins.n)
    for index, source in enumerate(joined(spins, first, slices)):
        kept = source >= 0
        control[index] = adjusted_rand_score(ours[kept], theirs[source[kept]])
    p = permutation_p(np.count_nonzero(control >= same), spins.n)
    return SpunAgreement(same, control, float(p))


def joined(spins: Spins, labels: Labels, slices: Sequence[slice]) -> Iterator[NDArray[np.intp]]:
    """Spins as indices into labels of all subjects one after the other (`aligned`).

    Raises:
        ValueError: if the spins are of other subjects or voxels.
    """
    names = list(labels.subjects) if hasattr(labels, "subjects") else list(labels)
    for sources in spins:
        if [len(sources.get(name, ())) for name in names] != [s.stop - s.start for s in slices]:
            raise ValueError(f"spins are of the voxels of {sorted(sources)}, labels are not")
        parts = [
            np.where(sources[name] >= 0, sources[name] + part.start, -1)
            for name, part in zip(names, slices, strict=True)
        ]
        yield np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class _Places:
    vertex: NDArray[np.int32]
    hemisphere: NDArray[np.uint8]
    voxel: list[NDArray[np.intp]]


def _places(subject: SubjectData, spheres: Sequence[NDArray[np.float64]]) -> _Places:
    if subject.hemisphere.max(initial=0) > 1:
        raise ValueError(f"{subject.name}: its voxels are not vertices of a mesh")
    tables = []
    for side, sphere in enumerate(spheres):
        mine = np.flatnonzero(subject.hemisphere == side)
        if subject.vertex[mine].max(initial=0) >= len(sphere):
            raise ValueError(
                f"{subject.name}: vertex {subject.vertex[mine].max()} is not on a sphere of "
                f"{len(sphere)} vertices"
            )
        table = np.full(len(sphere), -1, np.intp)
        table[subject.vertex[mine]] = mine
        tables.append(table)
    return _Places(subject.vertex, subject.hemisphere, tables)


def _unit_sphere(vertices: ArrayLike) -> NDArray[np.float64]:
    points = np.asarray(vertices, np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"a sphere has shape {points.shape}, expected [n_vertices, 3]")
    radius = np.linalg.norm(points, axis=1, keepdims=True)
    if not np.allclose(radius, radius.mean(), rtol=0.01):
        raise ValueError(
            f"vertices lie {radius.min():.4g} to {radius.max():.4g} from the origin, expected a "
            "sphere about it"
        )
    unit: NDArray[np.float64] = points / radius
    return unit
