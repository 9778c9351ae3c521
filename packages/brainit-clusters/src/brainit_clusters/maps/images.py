"""A map as the bytes of a GIFTI, CIFTI or NIfTI file."""

from __future__ import annotations

import gzip

import numpy as np
from nibabel.cifti2.cifti2 import Cifti2Image
from nibabel.cifti2.cifti2_axes import BrainModelAxis, LabelAxis, ScalarAxis
from nibabel.gifti.gifti import (
    GiftiDataArray,
    GiftiImage,
    GiftiLabel,
    GiftiLabelTable,
    GiftiMetaData,
)
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray

from brainit_clusters.data.dataset import SubjectData
from brainit_clusters.maps.mesh import Mesh
from brainit_clusters.maps.voxel_map import VoxelMap

HEMISPHERES = ("L", "R")
_STRUCTURES = ("CortexLeft", "CortexRight")
_NOWHERE = (1.0, 1.0, 1.0, 0.0)


def gifti(subject: SubjectData, found: VoxelMap, mesh: Mesh, hemisphere: int) -> bytes:
    """One hemisphere's vertices; those without a voxel are NaN, or label 0 ("???").

    Args:
        subject: Says where its voxels lie.
        found: The map.
        mesh: Of the vertices.
        hemisphere: 0 left, 1 right.
    """
    voxels = _voxels(subject, mesh, hemisphere)
    numbers = found.labels is None
    values = np.full(mesh.n_vertices, np.nan if numbers else 0, _dtype(found))
    values[subject.vertex[voxels]] = found.values[voxels]
    array = GiftiDataArray(
        values,
        intent="NIFTI_INTENT_NONE" if numbers else "NIFTI_INTENT_LABEL",
        datatype="NIFTI_TYPE_FLOAT32" if numbers else "NIFTI_TYPE_INT32",
        meta={"Name": found.name},
    )
    structure = GiftiMetaData({"AnatomicalStructurePrimary": _STRUCTURES[hemisphere]})
    table = GiftiLabelTable()
    if not numbers:
        for key, (name, colour) in _label_table(found).items():
            label = GiftiLabel(key, *colour)
            label.label = name  # type: ignore[attr-defined]
            table.labels.append(label)
    image = GiftiImage(darrays=[array], meta=structure, labeltable=table)
    return bytes(image.to_bytes())


def cifti(subject: SubjectData, found: VoxelMap, mesh: Mesh) -> bytes:
    """Both hemispheres in one CIFTI-2 file of exactly the voxels there are, by vertex.

    The brain models name the mesh's own vertices, so a file of fsaverage is valid CIFTI, but none
    of the 91,282 grayordinates of fsLR: show it on fsaverage surfaces.
    """
    sides = [_voxels(subject, mesh, hemisphere) for hemisphere in (0, 1)]
    order = [voxels[np.argsort(subject.vertex[voxels])] for voxels in sides]
    models = [
        BrainModelAxis.from_surface(subject.vertex[voxels], mesh.n_vertices, structure)
        for voxels, structure in zip(order, _STRUCTURES, strict=True)
        if len(voxels)
    ]
    axis = sum(models[1:], models[0])
    maps: ScalarAxis | LabelAxis
    if found.labels is None:
        maps, intent = ScalarAxis([found.name]), "ConnDenseScalar"
    else:
        maps, intent = LabelAxis([found.name], [_label_table(found)]), "ConnDenseLabel"
    values = found.values[np.concatenate(order)].astype(_dtype(found))
    image = Cifti2Image(values[None], (maps, axis))
    image.nifti_header.set_intent(intent)
    return bytes(image.to_bytes())


def nifti(subject: SubjectData, found: VoxelMap) -> bytes:
    """A gzipped volume; places without a voxel are NaN, or label 0.

    Of a dataset that does not know the size of the scan (`volume_shape`) the volume ends at the
    last voxel of each axis; viewers lay it over the scan by the affine.

    Raises:
        ValueError: if the subject's voxels have no place in a volume.
    """
    if subject.ijk is None:
        raise ValueError(f"{subject.name}: its voxels have no place in a volume, expected ijk")
    shape = subject.attributes.get("volume_shape", subject.ijk.max(axis=0) + 1)
    values = np.full(shape, np.nan if found.labels is None else 0, _dtype(found))
    values[tuple(subject.ijk.T)] = found.values
    image = Nifti1Image(values, subject.affine)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), mtime=0)


def _dtype(found: VoxelMap) -> type[np.float32] | type[np.int32]:
    return np.float32 if found.labels is None else np.int32


def _voxels(subject: SubjectData, mesh: Mesh, hemisphere: int) -> NDArray[np.intp]:
    if subject.hemisphere.max(initial=0) > 1:
        raise ValueError(f"{subject.name}: its voxels are not vertices of a mesh")
    if subject.vertex.max(initial=0) >= mesh.n_vertices:
        raise ValueError(
            f"{subject.name}: vertex {subject.vertex.max()} is not on {mesh.space} with "
            f"{mesh.n_vertices} vertices a hemisphere"
        )
    return np.flatnonzero(subject.hemisphere == hemisphere)


def _label_table(found: VoxelMap) -> dict[int, tuple[str, tuple[float, float, float, float]]]:
    colours, names = found.colours(), found.labels or {}
    table = {label: (names[label], (*colour, 1.0)) for label, colour in colours.items()}
    return {0: ("???", _NOWHERE), **table}
