"""Maps as a BIDS derivative: data files, their sidecars, and what the folder itself must say."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from brainit_clusters.__about__ import __version__
from brainit_clusters._files import replacing
from brainit_clusters.data.dataset import SubjectData
from brainit_clusters.maps.images import HEMISPHERES, cifti, gifti, nifti
from brainit_clusters.maps.mesh import Mesh
from brainit_clusters.maps.names import MapName, bids_label, subject_label
from brainit_clusters.maps.voxel_map import VoxelMap

Format: TypeAlias = Literal["gifti", "cifti", "nifti"]
_SOFTWARE = {"Name": "brainit-clusters", "Version": __version__}
_COLUMNS = {
    "index": {"Description": "Label in the image; 0 is no label.", "Format": "integer"},
    "name": {"Description": "What the label stands for."},
    "color": {"Description": "Colour to show it in, hexadecimal RGB."},
}
# What the BIDS standard has no names for yet: numbers, labels of meshes, pictures.
_IGNORED = "*_statmap.*\n*_dseg.*\nfigures\n"


def write_map(
    root: str | Path,
    subject: SubjectData,
    found: VoxelMap,
    mesh: Mesh | None = None,
    formats: Sequence[Format] = ("gifti",),
    task: str | None = None,
    sources: Sequence[str | Path] = (),
    force: bool = False,
) -> list[Path]:
    """Write one map of one subject for any viewer, below a BIDS-derivative folder.

    Numbers become `_stat-NAME_statmap` files, labels `_desc-NAME_dseg` files with a table of
    names and colours. Each file has a JSON sidecar of the same name.

    Args:
        root: The derivative's folder; made, or one that this function made.
        subject: Says where its voxels lie.
        found: The map.
        mesh: Of the subject's vertices (`mesh_of`); None for volumes.
        formats: "gifti" (a file a hemisphere) and "cifti" for meshes, "nifti" for volumes.
        task: Task during which the data were measured, such as "nsdcore".
        sources: Files that the map was made from.
        force: Replace files that are there.

    Returns:
        The data files and the label table, without sidecars.

    Raises:
        FileExistsError: if a file is there already, before anything is written.
        ValueError: if there is not one value a voxel, a format does not fit the subject, or the
            folder holds another dataset.
    """
    if found.values.shape != (subject.n_voxels,):
        raise ValueError(f"{found.name}: {found.values.shape}, expected ({subject.n_voxels},)")
    root = Path(root)
    name = map_name(subject, found, mesh, task)
    files = {
        file: data for form in formats for file, data in _encode(subject, found, mesh, name, form)
    }
    if found.labels is not None:
        files[replace(name, extension=".tsv")] = _label_tsv(found).encode()
    paths = {root / file.path: data for file, data in files.items()}
    for path in paths:
        if path.exists() and not force:
            raise FileExistsError(f"{path}: exists already, expected to make it")
    uris = describe_derivative(root, found, sources)
    for path, data in paths.items():
        _write(path, data)
    for sidecar in {replace(file, extension=".json") for file in files}:
        about = _sidecar(subject, found, mesh, sidecar.hemi) | {"Sources": uris}
        _write(root / sidecar.path, _json(about))
    return list(paths)


def map_name(
    subject: SubjectData, found: VoxelMap, mesh: Mesh | None, task: str | None = None
) -> MapName:
    """The name of a map's table or picture, from which those of its other files follow."""
    numbers = found.labels is None
    return MapName(
        sub=subject_label(subject.name),
        suffix="statmap" if numbers else "dseg",
        extension=".tsv",
        task=task,
        space=mesh.space if mesh else None,
        den=mesh.density if mesh else None,
        stat=bids_label(found.name) if numbers else None,
        desc=None if numbers else bids_label(found.name),
    )


def describe_derivative(root: Path, found: VoxelMap, sources: Iterable[str | Path]) -> list[str]:
    """Write or extend what the folder says of itself; give the sources as BIDS URIs.

    Each source's folder becomes an entry of `DatasetLinks`, relative to `root`.

    Raises:
        ValueError: if the folder holds another dataset.
    """
    path = root / "dataset_description.json"
    about: dict[str, Any] = {
        "Name": "Brain-IT maps of voxels",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [_SOFTWARE],
        "DatasetLinks": {},
    }
    if path.exists():
        about["DatasetLinks"] = _links_of(path)
    uris = [_uri(Path(source), root, about["DatasetLinks"]) for source in sources]
    _write(path, _json(about))
    _write(root / ".bidsignore", _IGNORED.encode())
    if found.labels is not None:
        _add_description(root / "descriptions.tsv", bids_label(found.name), found.description)
    return uris


def _encode(
    subject: SubjectData, found: VoxelMap, mesh: Mesh | None, name: MapName, form: str
) -> list[tuple[MapName, bytes]]:
    numbers = found.labels is None
    if form == "nifti":
        return [(replace(name, extension=".nii.gz"), nifti(subject, found))]
    if mesh is None:
        raise ValueError(f"{subject.name}: {form} needs a mesh; volumes are written as nifti")
    if form == "cifti":
        extension = ".dscalar.nii" if numbers else ".dlabel.nii"
        return [(replace(name, extension=extension), cifti(subject, found, mesh))]
    if form != "gifti":
        raise ValueError(f"format is {form!r}, expected gifti, cifti or nifti")
    extension = ".func.gii" if numbers else ".label.gii"
    return [
        (replace(name, hemi=hemi, extension=extension), gifti(subject, found, mesh, side))
        for side, hemi in enumerate(HEMISPHERES)
    ]


def _sidecar(
    subject: SubjectData, found: VoxelMap, mesh: Mesh | None, hemi: str | None
) -> dict[str, Any]:
    about: dict[str, Any] = {
        "Description": found.description,
        "Subject": subject.name,
        "Software": _SOFTWARE,
        "Params": dict(found.params),
    }
    if found.labels is None:
        about["Units"] = found.units or "arbitrary"
    elif hemi is None:  # of the table, too
        about |= _COLUMNS
    if mesh:
        about["Density"] = {mesh.density: f"{mesh.n_vertices} vertices a hemisphere"}
        both = {
            "CIFTI_STRUCTURE_CORTEX_LEFT": mesh.reference("L"),
            "CIFTI_STRUCTURE_CORTEX_RIGHT": mesh.reference("R"),
        }
        about["SpatialReference"] = mesh.reference(hemi) if hemi else both
    else:
        about["SpatialReference"] = "orig"
    return about


def _label_tsv(found: VoxelMap) -> str:
    rows = ["index\tname\tcolor"]
    for label, colour in found.colours().items():
        text = "".join(f"{round(255 * part):02X}" for part in colour)
        rows.append(f"{label}\t{(found.labels or {})[label]}\t#{text}")
    return "\n".join(rows) + "\n"


def _links_of(path: Path) -> dict[str, str]:
    """Links of an earlier call."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if about["GeneratedBy"][0]["Name"] == _SOFTWARE["Name"]:
            return dict(about["DatasetLinks"])
    except (ValueError, KeyError, TypeError, IndexError):
        pass
    raise ValueError(f"{path}: describes another dataset, expected an empty folder or one of maps")


def _uri(source: Path, root: Path, links: dict[str, str]) -> str:
    """The source as `bids:LINK:FILE`; adds its folder's link where there is none yet."""
    folder = source.resolve().parent
    target = Path(os.path.relpath(folder, root.resolve())).as_posix()
    stem = "".join(part for part in folder.name if part.isalnum() and part.isascii()) or "source"
    link, number = stem, 2
    while links.setdefault(link, target) != target:
        link, number = f"{stem}{number}", number + 1
    return f"bids:{link}:{source.name}"


def _add_description(path: Path, desc: str, text: str) -> None:
    head = "desc_id\tdescription"
    lines = path.read_text(encoding="utf-8").splitlines()[1:] if path.exists() else []
    rows = dict(line.split("\t", 1) for line in lines) | {f"desc-{desc}": text}
    _write(path, "\n".join([head, *(f"{k}\t{v}" for k, v in rows.items()), ""]).encode())


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)
