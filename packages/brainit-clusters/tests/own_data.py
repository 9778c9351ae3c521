"""One small set of single trials, as every kind of file that holds betas."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import h5py
import nibabel as nib
import numpy as np

from brainit_clusters import BrainDataset
from brainit_clusters.data.other import (
    TrialsConfig,
    prepare_trials,
    read_arrays,
    read_cifti,
    read_gifti,
    read_glmsingle,
    read_nifti,
    read_trial_table,
)

# float16 keeps 11 bits: relative rounding 2^-11, on z-scores up to 4; float32 errors are far less.
HALF = 4 * 2.0**-11
N_IMAGES, N_VOXELS, GRID = 7, 12, (3, 4, 2)
CONFIG = TrialsConfig(image_size=8, test_images=("1", "4"), validation_fraction=0.4)


def write_table(path, columns):
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="," if path.suffix == ".csv" else "\t")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def trial_data(tmp_path):
    """Twenty trials in three sessions; 24 grid cells of which 12 are in the mask."""
    rng = np.random.default_rng(3)
    session = np.repeat([1, 2, 3], [6, 6, 8])
    shown = np.concatenate([np.arange(7), np.arange(7), rng.integers(0, N_IMAGES, 6)])
    images = rng.integers(0, 256, (N_IMAGES, 8, 8, 3), dtype=np.uint8)
    mask = np.zeros(GRID, bool)
    mask.ravel()[rng.choice(24, N_VOXELS, replace=False)] = True
    tuning = rng.normal(size=(N_IMAGES, N_VOXELS))
    betas = (2 + tuning[shown] + rng.normal(size=(20, N_VOXELS))).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "betas.npy", betas)
    columns = {"session": session, "run": np.arange(20) // 2, "image": shown}
    write_table(tmp_path / "trials.tsv", columns)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -10
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), tmp_path / "mask.nii.gz")
    return SimpleNamespace(
        folder=tmp_path, session=session, shown=shown, images=images, mask=mask, betas=betas,
        affine=affine, columns=columns, table=read_trial_table(tmp_path / "trials.tsv"),
    )  # fmt: skip


def volume(data):
    values = np.full((*GRID, len(data.shown)), np.nan, np.float32)
    values[data.mask] = data.betas.T
    return values


def as_npz(data):
    np.savez(data.folder / "betas.npz", betas=data.betas, other=np.zeros(2))
    return read_arrays("sub-01", f"{data.folder}/betas.npz:betas", data.table)


def as_hdf5(data):
    with h5py.File(data.folder / "betas.h5", "w") as file:
        file.create_dataset("a/betas", data=data.betas, chunks=(3, 5), compression="gzip")
    return read_arrays("sub-01", f"{data.folder}/betas.h5:/a/betas", data.table)


def as_npy(data):
    return read_arrays("sub-01", data.folder / "betas.npy", data.table)


def as_nifti(data, suffix=".nii.gz"):
    path = data.folder / f"betas{suffix}"
    nib.save(nib.Nifti1Image(volume(data), data.affine), path)
    return read_nifti("sub-01", path, data.folder / "mask.nii.gz", data.table)


def as_nifti_per_session(data):
    paths = []
    for session in (1, 2, 3):
        paths.append(data.folder / f"betas_{session}.nii")
        part = volume(data)[..., data.session == session]
        nib.save(nib.Nifti1Image(part, data.affine), paths[-1])
    return read_nifti("sub-01", paths, data.folder / "mask.nii.gz", data.table)


def write_gifti(path, values):
    arrays = [nib.gifti.GiftiDataArray(row, "NIFTI_INTENT_NONE") for row in values]
    nib.save(nib.gifti.GiftiImage(darrays=arrays), path)
    return path


def as_gifti(data, n_left=7):
    left = write_gifti(data.folder / "lh.func.gii", data.betas[:, :n_left])
    right = write_gifti(data.folder / "rh.func.gii", data.betas[:, n_left:])
    return read_gifti("sub-01", left, right, data.table, space="fsaverage")


def as_cifti(data, scalar=True, n_vertices=20):
    axis = nib.cifti2.BrainModelAxis.from_surface(np.arange(1, 8), n_vertices, "CortexLeft")
    axis += nib.cifti2.BrainModelAxis.from_mask(np.ones((1, 1, 2)), "THALAMUS_LEFT", np.eye(4))
    axis += nib.cifti2.BrainModelAxis.from_surface(np.arange(5) * 3, n_vertices, "CortexRight")
    rows = (
        nib.cifti2.ScalarAxis([str(n) for n in range(20)])
        if scalar
        else nib.cifti2.SeriesAxis(0, 1, 20)
    )
    values = np.insert(data.betas, [7, 7], 9, axis=1)
    path = data.folder / f"betas.{'dscalar' if scalar else 'dtseries'}.nii"
    nib.save(nib.Cifti2Image(values, (rows, axis)), path)
    return read_cifti("sub-01", path, data.table)


def as_glmsingle(data, grid=True):
    path = data.folder / "TYPED_FITHRF_GLMDENOISE_RR.hdf5"
    with h5py.File(path, "w") as file:
        file["betasmd"] = volume(data) if grid else data.betas.T
        file["R2"] = np.zeros(GRID)
    mask = data.folder / "mask.nii.gz" if grid else None
    return read_glmsingle("sub-01", path, data.table, mask=mask)


ROUTES = {
    "npz": as_npz,
    "hdf5": as_hdf5,
    "nifti.gz": as_nifti,
    "nifti": lambda data: as_nifti(data, ".nii"),
    "nifti a session": as_nifti_per_session,
    "gifti": as_gifti,
    "dscalar": as_cifti,
    "dtseries": lambda data: as_cifti(data, scalar=False),
    "glmsingle": as_glmsingle,
    "glmsingle flat": lambda data: as_glmsingle(data, grid=False),
}


def prepared(data, subject, config=CONFIG, images="images.npy"):
    path = prepare_trials(data.folder / "dataset.h5", [subject], data.folder / images, config)
    with BrainDataset.open(path) as dataset:
        found = dataset.subject("sub-01")
        return found, dataset.images(found.image_id), dataset.attributes


def expected_betas(data, used):
    """Plain loops in float64: z-score every voxel in every session, average the repeats."""
    result = np.zeros((N_IMAGES, data.betas.shape[1]))
    trials = data.betas.astype(float)
    for column in trials.T:
        for session in (1, 2, 3):
            now = session == data.session
            sample = column[now & used]
            column[now] = (column[now] - sample.mean()) / sample.std()
    for row in range(N_IMAGES):
        result[row] = trials[data.shown == row].mean(axis=0)
    return result, trials
