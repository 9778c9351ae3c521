"""Which standard mesh a dataset's vertices are those of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_TEMPLATES = "https://templateflow.s3.amazonaws.com"


@dataclass(frozen=True)
class Mesh:
    """A standard mesh, the same number of vertices in each hemisphere.

    Attributes:
        space: BIDS name of the space.
        density: BIDS name of the density.
        n_vertices: Of one hemisphere.
    """

    space: str
    density: str
    n_vertices: int

    def reference(self, hemi: str) -> str:
        """Address of the mesh's sphere, hemi "L" or "R" (BIDS: SpatialReference)."""
        parts = [f"hemi-{hemi}", f"den-{self.density}"]
        if self.space == "fsLR":  # TemplateFlow orders the two entities by template
            parts.reverse()
        name = "_".join([f"tpl-{self.space}", *parts, "sphere.surf.gii"])
        return f"{_TEMPLATES}/tpl-{self.space}/{name}"


MESHES = (
    Mesh("fsaverage", "10k", 10_242),
    Mesh("fsaverage", "41k", 40_962),
    Mesh("fsaverage", "164k", 163_842),
    Mesh("fsLR", "32k", 32_492),
    Mesh("fsLR", "59k", 59_292),
    Mesh("fsLR", "164k", 163_842),
)
_NAMES = {"fsaverage5": 10_242, "fsaverage6": 40_962, "fsaverage7": 163_842, "fsLR-32k": 32_492}


def mesh_of(attributes: Mapping[str, Any], n_vertices: int | None = None) -> Mesh:
    """The mesh that a dataset was measured on.

    Args:
        attributes: Those of the dataset: `space`, and `n_vertices_per_hemisphere` if known.
        n_vertices: Vertices of a hemisphere, where the dataset does not say.

    Raises:
        ValueError: if the space is not fsaverage or fsLR, or the number of vertices is unknown or
            that of none of their meshes.
    """
    name = str(attributes.get("space", "unknown"))
    count = attributes.get("n_vertices_per_hemisphere", _NAMES.get(name, n_vertices))
    if n_vertices is not None and n_vertices != count:
        raise ValueError(f"{n_vertices} vertices a hemisphere, the dataset says {count}")
    space = next((mesh.space for mesh in MESHES if name.startswith(mesh.space)), None)
    if space is None:
        raise ValueError(f"space is {name!r}, expected fsaverage or fsLR (or a volume)")
    if count is None:
        raise ValueError(f"space {name!r}: the dataset does not say how many vertices it has")
    known = {mesh.n_vertices: mesh for mesh in MESHES if mesh.space == space}
    if count not in known:
        raise ValueError(f"{space} with {count} vertices a hemisphere, expected {list(known)}")
    return known[count]
