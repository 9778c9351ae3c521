"""One value a voxel as files that any viewer opens: GIFTI, CIFTI and NIfTI under BIDS names."""

from brainit_clusters.maps.derivative import Format, map_name, write_map
from brainit_clusters.maps.mesh import Mesh, mesh_of
from brainit_clusters.maps.names import MapName
from brainit_clusters.maps.voxel_map import (
    VoxelMap,
    atlas_map,
    cluster_map,
    noise_ceiling_map,
    number_map,
)

__all__ = [
    "Format",
    "MapName",
    "Mesh",
    "VoxelMap",
    "atlas_map",
    "cluster_map",
    "map_name",
    "mesh_of",
    "noise_ceiling_map",
    "number_map",
    "write_map",
]
