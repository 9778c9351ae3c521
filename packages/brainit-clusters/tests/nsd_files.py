"""A tiny tree in NSD's layout, written byte by byte, with known values.

Two subjects, ten vertices a hemisphere, three sessions of 5, 6 and 7 trials, 2 shared and 4 own
images, each shown three times. Ids on disk are 1-based, as in NSD.
"""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import scipy.io

BETAS = "betas_fithrf_GLMdenoise_RR"
SESSIONS = np.repeat([1, 2, 3], [5, 6, 7])
MASK = np.array([0, 1, 1, 1, 1, 1, 1, 0, -1, -1])
STREAMS = np.array([0, 1, 1, 2, 2, 5, 5, 5, 0, 7])
FACES = np.array([0, 0, 3, 3, 0, 0, 0, 0, 0, 0])


@dataclass
class Tree:
    """The tree and what was written into it."""

    root: Path
    images: np.ndarray  # uint8 [12, 16, 16, 3]
    order: np.ndarray  # 1-based [18]
    ids: np.ndarray  # 1-based [2, 6]
    betas: dict[tuple[int, str], np.ndarray]  # (subject, side) -> [10, 18]
    ncsnr: dict[tuple[int, str], np.ndarray]

    def beta_file(self, subject: int, side: str, session: int) -> Path:
        folder = self.root / f"nsddata_betas/ppdata/subj{subject:02d}/fsaverage/{BETAS}"
        return folder / f"{side}.betas_session{session:02d}.mgh"

    def write_betas(self) -> None:
        for (subject, side), values in self.betas.items():
            for session in (1, 2, 3):
                path = self.beta_file(subject, side, session)
                write_mgh(path, values[:, session == SESSIONS])

    def folder(self, subject: int, space: str) -> Path:
        return self.root / f"nsddata_betas/ppdata/subj{subject:02d}/{space}/{BETAS}"

    def responses(self, subject: int) -> Path:
        return self.root / f"nsddata/ppdata/subj{subject:02d}/behav/responses.tsv"


def mgh_bytes(values: np.ndarray) -> bytes:
    """FreeSurfer's MGH layout: 284 bytes of header, then big-endian floats, vertex fastest."""
    n_vertices, n_frames = values.shape
    header = struct.pack(">7ih", 1, n_vertices, 1, 1, n_frames, 3, 0, 1)
    header += struct.pack(">15f", 1, 1, 1, -1, 0, 0, 0, 0, -1, 0, 1, 0, 0, 0, 0)
    return header.ljust(284, b"\0") + values.T.astype(">f4").tobytes()


def write_mgh(path: Path, values: np.ndarray) -> None:
    content = mgh_bytes(values.reshape(len(values), -1))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".mgz" else content)


def write_tree(root: Path) -> Tree:
    rng = np.random.default_rng(7)
    order = np.array([3, 1, 4, 5, 6, 2, 3, 4, 1, 5, 6, 6, 2, 5, 3, 1, 4, 2])
    ids = np.array([[3, 8, 12, 1, 5, 10], [3, 8, 2, 11, 4, 6]])
    keys = [(subject, side) for subject in (1, 2) for side in ("lh", "rh")]
    tree = Tree(
        root,
        rng.integers(0, 256, (12, 16, 16, 3), dtype=np.uint8),
        order,
        ids,
        {key: rng.normal(1, 3, (10, 18)).astype(np.float32) for key in keys},
        {key: rng.uniform(0, 1.5, 10).astype(np.float32) for key in keys},
    )
    tree.write_betas()
    for (subject, side), values in tree.ncsnr.items():
        write_mgh(tree.beta_file(subject, side, 1).with_name(f"{side}.ncsnr.mgh"), values)
    labels = root / "nsddata/freesurfer/fsaverage/label"
    for side in ("lh", "rh"):
        for name, values in (("nsdgeneral", MASK), ("streams", STREAMS), ("floc-faces", FACES)):
            write_mgh(labels / f"{side}.{name}.mgz", values.astype(np.float32))
    (labels / "streams.mgz.ctab").write_text(
        "0 Unknown 0 0 0 0\n1 early 1 2 3 0\n5 ventral 1 1 1 0\n"
    )
    _write_design(tree)
    return tree


def _write_design(tree: Tree) -> None:
    path = tree.root / "nsddata/experiments/nsd/nsd_expdesign.mat"
    path.parent.mkdir(parents=True)
    fields = {
        "masterordering": tree.order[None].astype(float),
        "subjectim": tree.ids.astype(float),
        "sharedix": tree.ids[:1, :2].astype(float),
    }
    scipy.io.savemat(path, fields)
    for subject in (1, 2):
        write_responses(tree, subject)
    stimuli = tree.root / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
    stimuli.parent.mkdir(parents=True)
    with h5py.File(stimuli, "w") as file:
        file["imgBrick"] = tree.images


def write_responses(tree: Tree, subject: int, shift: int = 0) -> None:
    """Write a subject's trial table; `shift` is added to 73KID to make it wrong."""
    lines = ["SUBJECT\tSESSION\tRUN\tTRIAL\t73KID\t10KID\tRT"]
    for session, order in zip(SESSIONS, tree.order, strict=True):
        kid = tree.ids[subject - 1, order - 1] + shift
        lines.append(f"{subject}\t{session}\t1\t1\t{kid}\t{order}\tNaN")
    tree.responses(subject).parent.mkdir(parents=True, exist_ok=True)
    tree.responses(subject).write_text("\n".join(lines) + "\n")


GRID, AFFINE_MM = (4, 3, 5), 1.8
# Where the 20 vertices (left, then right) lie in the volume: their order is not that of a file.
CELLS = np.random.default_rng(11).permutation(60)[:20]


def nifti_bytes(values: np.ndarray) -> bytes:
    """NIfTI-1: 348 bytes of header, 4 of extension flag, then values, first axis fastest."""
    code = {"i2": 4, "f4": 16}[values.dtype.str[1:]]
    dim = [values.ndim, *values.shape] + [1] * (7 - values.ndim)
    header = struct.pack("<i36x8h", 348, *dim)
    header += struct.pack("<14xhhh", code, 8 * values.dtype.itemsize, 0)
    header += struct.pack("<8f", 1, AFFINE_MM, AFFINE_MM, AFFINE_MM, 1, 0, 0, 0)
    header += struct.pack("<fff", 352, 0, 0)  # vox_offset, scl_slope, scl_inter
    header = header.ljust(252, b"\0") + struct.pack("<hh", 0, 1)
    header = header.ljust(280, b"\0")
    for axis in range(3):
        header += struct.pack("<4f", *(AFFINE_MM * (axis == column) for column in range(3)), -4)
    header = header.ljust(344, b"\0") + b"n+1\0"
    return header.ljust(352, b"\0") + values.tobytes(order="F")


def write_nifti(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(nifti_bytes(values)))


def in_volume(left: np.ndarray, right: np.ndarray, rest: float, dtype: type) -> np.ndarray:
    """Values [10, ...] of both hemispheres at their cells of the grid."""
    values = np.concatenate([left, right])
    cells = np.full((60, *values.shape[1:]), rest, dtype)
    cells[CELLS] = values
    return cells.reshape(*GRID, *values.shape[1:])


def as_whole(tree: Tree) -> None:
    """Round betas to what NSD's integer files can hold, percent signal change in steps of 1/300."""
    for values in tree.betas.values():
        values[:] = np.rint(300 * values) / 300
    tree.write_betas()


def write_native(tree: Tree) -> None:
    for subject in (1, 2):
        labels = tree.root / f"nsddata/freesurfer/subj{subject:02d}/label"
        for side in ("lh", "rh"):
            for name, values in (("nsdgeneral", MASK), ("streams", STREAMS)):
                write_mgh(labels / f"{side}.{name}.mgz", values.astype(np.float32))
            folder = tree.folder(subject, "nativesurface")
            write_mgh(folder / f"{side}.ncsnr.mgh", tree.ncsnr[subject, side])
            for session in (1, 2, 3):
                betas = tree.betas[subject, side][:, session == SESSIONS].T
                with h5py.File(folder / f"{side}.betas_session{session:02d}.hdf5", "w") as file:
                    file["betas"] = np.rint(300 * betas).astype(np.int16)


def write_volume(tree: Tree, space: str, packed: bool, chunked: bool = True) -> None:
    for subject in (1, 2):
        folder = tree.folder(subject, space)
        sides = [tree.betas[subject, side] for side in ("lh", "rh")]
        snr = [tree.ncsnr[subject, side] for side in ("lh", "rh")]
        write_nifti(folder / "ncsnr.nii.gz", in_volume(*snr, 0, np.float32))
        roi = tree.root / f"nsddata/ppdata/subj{subject:02d}/{space}/roi"
        for name, values in (("nsdgeneral", MASK), ("streams", STREAMS)):
            write_nifti(roi / f"{name}.nii.gz", in_volume(values, values, -1, np.int16))
            write_nifti(roi / f"lh.{name}.nii.gz", in_volume(values, 0 * values, -1, np.int16))
        for session in (1, 2, 3):
            now = [np.rint(300 * part[:, session == SESSIONS]) for part in sides]
            betas = in_volume(*now, 77, np.int16)
            path = folder / f"betas_session{session:02d}"
            if packed:
                write_nifti(path.with_suffix(".nii.gz"), betas)
                continue
            with h5py.File(path.with_suffix(".hdf5"), "w") as file:
                chunks = (betas.shape[-1], 1, 1, 1) if chunked else None
                file.create_dataset("betas", data=betas.T, chunks=chunks)


def write_space(tree: Tree, space: str, form: str) -> None:
    """A space of the tree in one of its forms."""
    as_whole(tree)
    if space == "nativesurface":
        write_native(tree)
    elif space != "fsaverage":
        write_volume(tree, space, form == "nii.gz", form != "contiguous")


FORMS = [
    ("fsaverage", "mgh"),
    ("nativesurface", "hdf5"),
    ("func1pt8mm", "hdf5"),
    ("func1pt8mm", "contiguous"),
    ("func1mm", "nii.gz"),
]
