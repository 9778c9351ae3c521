"""Areas of visual cortex as contiguous patches on the fsaverage5 mesh.

V1, V2 and V3 are bands along the calcarine sulcus, mirrored about it as in the brain: the ventral
half sees the upper visual field. The other areas are discs around their usual places. Every
subject's map is a shifted and scaled copy of one plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

HEMISPHERES = ("lh", "rh")
STREAMS = {1: "early", 2: "midventral", 3: "midlateral", 5: "ventral", 6: "lateral"}
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Area:
    """Name, NSD stream code, share of the mask in parts, place (MNI305, right hemisphere, mm)."""

    name: str
    stream: int
    share: float
    place: tuple[int, int, int] | None = None


AREAS = (
    Area("V1", 1, 20),
    Area("V2", 1, 16),
    Area("V3", 1, 12),
    Area("hV4", 2, 8, (28, -78, -14)),
    Area("VO", 2, 6, (26, -64, -12)),
    Area("LO", 3, 6, (40, -80, 2)),
    Area("OFA", 6, 2, (42, -76, -12)),
    Area("FFA", 5, 4, (42, -52, -20)),
    Area("EBA", 6, 5, (48, -68, 6)),
    Area("FBA", 5, 2, (42, -42, -22)),
    Area("animals", 5, 5, (46, -62, -12)),
    Area("food", 5, 4, (34, -60, -16)),
    Area("PPA", 5, 3, (28, -44, -10)),
    Area("OPA", 6, 3, (34, -82, 22)),
    Area("vehicles", 6, 4, (44, -74, 14)),
    Area("tools", 6, 4, (50, -58, -4)),
    Area("plants", 5, 3, (34, -48, -16)),
)
AREA_INDEX = {area.name: i for i, area in enumerate(AREAS)}
POLE, CALCARINE = (10, -98, -2), (12, -64, 4)
BANDS = ("V1", "V2", "V3")
FOVEA, PERIPHERY = -6.0, 38.0


@dataclass(frozen=True)
class AreaMap:
    """A subject's mask vertices, hemisphere by hemisphere, each in ascending order.

    Attributes:
        vertex: Vertex in its hemisphere, int32 [n].
        hemisphere: 0 left, 1 right, uint8 [n].
        area: Index into ``AREAS``, uint8 [n].
        along: Place in the area from posterior to anterior, [n] in 0..1.
        across: Place in the area from ventral (-1) to dorsal (1), [n]; in V1 to V3 zero is the
            border that lies nearest the calcarine.
    """

    vertex: NDArray[np.int32]
    hemisphere: NDArray[np.uint8]
    area: NDArray[np.uint8]
    along: Floats
    across: Floats

    def __len__(self) -> int:
        """Number of vertices."""
        return len(self.vertex)


@lru_cache(maxsize=2)
def mesh_plane(hemisphere: int) -> tuple[Floats, Floats]:
    """Flatten one hemisphere of fsaverage5 around the calcarine sulcus.

    Args:
        hemisphere: 0 left, 1 right.

    Returns:
        Degrees on the registration sphere, [10242, 2]: anterior along the calcarine from the
        occipital pole, and dorsal across it; and the pial coordinates in mm, [10242, 3].
    """
    from nilearn import datasets, surface

    files = datasets.fetch_surf_fsaverage("fsaverage5")
    side = ("left", "right")[hemisphere]
    pial = np.asarray(surface.load_surf_mesh(files[f"pial_{side}"]).coordinates, float)
    sphere = np.asarray(surface.load_surf_mesh(files[f"sphere_{side}"]).coordinates, float)
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    pole, front = (sphere[nearest(pial, place, hemisphere)] for place in (POLE, CALCARINE))
    along = front - (front @ pole) * pole
    along /= np.linalg.norm(along)
    across = np.cross(pole, along)
    angle = np.degrees(np.arccos(np.clip(sphere @ pole, -1, 1)))
    tangent = np.stack([sphere @ along, sphere @ across], 1)
    plane = tangent * (angle / np.maximum(np.linalg.norm(tangent, axis=1), 1e-12))[:, None]
    near = angle < 40
    if np.corrcoef(plane[near, 1], pial[near, 2])[0, 1] < 0:
        plane[:, 1] *= -1
    return plane, pial


def nearest(pial: Floats, place: tuple[int, int, int], hemisphere: int) -> int:
    """Vertex nearest to a place that is given for the right hemisphere."""
    return int(np.linalg.norm(pial - np.array(place) * [2 * hemisphere - 1, 1, 1], axis=1).argmin())


def lay_out(n_voxels: int, rng: np.random.Generator) -> AreaMap:
    """Lay the areas of one subject out on both hemispheres.

    Args:
        n_voxels: Vertices in the subject's mask, both hemispheres together.
        rng: Draws the subject's shifts (about two degrees on the sphere) and the balance of the
            hemispheres.

    Returns:
        The subject's areas.
    """
    left = round(n_voxels * rng.uniform(0.48, 0.52))
    parts = [_lay_out_hemisphere(h, n, rng) for h, n in enumerate((left, n_voxels - left))]
    hemisphere = np.repeat(np.arange(2, dtype=np.uint8), [len(part[0]) for part in parts])
    vertex, area, along, across = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return AreaMap(vertex.astype(np.int32), hemisphere, area.astype(np.uint8), along, across)


def _lay_out_hemisphere(
    hemisphere: int, n_voxels: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats, Floats]:
    plane, pial = mesh_plane(hemisphere)
    places = np.array([plane[nearest(pial, a.place or CALCARINE, hemisphere)] for a in AREAS])
    places += rng.normal(0, 1.0, places.shape)
    plane = plane + rng.normal(0, 1.5, 2)
    shares = np.array([a.share for a in AREAS])
    ends = np.round(np.cumsum(shares) / shares.sum() * n_voxels).astype(int)
    sizes = np.diff(ends, prepend=0)
    area = np.full(len(plane), -1)
    _bands(area, plane, sizes)
    _discs(area, plane, places, sizes)
    vertex = np.flatnonzero(area >= 0)
    along, across = _local_places(area, plane)
    return vertex, area[vertex], along[vertex], across[vertex]


def _bands(area: NDArray[np.int64], plane: Floats, sizes: NDArray[np.int64]) -> None:
    inside = np.flatnonzero((plane[:, 0] > FOVEA) & (plane[:, 0] < PERIPHERY))
    order = inside[np.argsort(np.abs(plane[inside, 1]), kind="stable")]
    start = 0
    for name in BANDS:
        index = AREA_INDEX[name]
        area[order[start : start + sizes[index]]] = index
        start += sizes[index]


def _discs(
    area: NDArray[np.int64], plane: Floats, places: Floats, sizes: NDArray[np.int64]
) -> None:
    """Give every free vertex to the nearest area that still has room, nearest pairs first."""
    discs = np.array([i for i, a in enumerate(AREAS) if a.place is not None])
    free = np.flatnonzero(area < 0)
    distance = np.linalg.norm(plane[free, None] - places[None, discs], axis=2)
    room = dict(zip(discs.tolist(), sizes[discs].tolist(), strict=True))
    for pair in np.argsort(distance, axis=None, kind="stable"):
        row, column = divmod(int(pair), len(discs))
        index = int(discs[column])
        if area[free[row]] < 0 and room[index] > 0:
            area[free[row]] = index
            room[index] -= 1
        elif not any(room.values()):
            break


def _local_places(area: NDArray[np.int64], plane: Floats) -> tuple[Floats, Floats]:
    along, across = np.zeros(len(area)), np.zeros(len(area))
    for index, a in enumerate(AREAS):
        where = np.flatnonzero(area == index)
        along[where] = _rank(plane[where, 0])
        b = plane[where, 1]
        across[where] = np.sign(b) * _rank(np.abs(b)) if a.name in BANDS else 2 * _rank(b) - 1
    return along, across


def _rank(values: Floats) -> Floats:
    rank = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return np.asarray((rank + 0.5) / max(len(values), 1))
