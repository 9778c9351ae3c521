"""BIDS-derivative folders: runs by their names, trials by their events."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from brainit_clusters import BrainDataset
from brainit_clusters.data.other import (
    TrialsConfig,
    TrialTable,
    prepare_trials,
    read_arrays,
    read_bids,
)
from brainit_clusters.data.other.bids import entities

RUNS = [("1", "2"), ("1", "10"), ("2", "1")]
CONFIG = TrialsConfig(image_size=8, test_images=("3",))


@pytest.fixture
def bids(tmp_path):
    """One subject, two sessions; run 10 sorts after run 2; raw data hold the events."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "images.npy", rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8))
    values = rng.normal(size=(len(RUNS), 6, 8)).astype(np.float32)
    shown = np.array([rng.permutation(6) for _ in RUNS])
    for (session, run), images in zip(RUNS, shown, strict=True):
        lines = ["onset\tduration\ttrial_type\tstim_file", "0\t1\tblank\tn/a"]
        lines += [f"{10.5 + n}\t1\timage\t{image}" for n, image in enumerate(images)]
        lines.append(lines.pop(2))  # the first trial last: onsets order the rows
        folder = tmp_path / f"raw/sub-01/ses-{session}/func"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"sub-01_ses-{session}_task-nsd_run-{run}_events.tsv"
        (folder / name).write_text("\n".join(lines) + "\n")
    np.save(tmp_path / "betas.npy", values.reshape(18, 8))
    table = TrialTable(np.repeat(["1", "2"], [12, 6]), shown.ravel().astype(str))
    truth = read_arrays("sub-01", tmp_path / "betas.npy", table)
    return tmp_path, values, truth


def beta_path(root, session, run, tail):
    folder = root / f"betas/sub-01/ses-{session}/func"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"sub-01_ses-{session}_task-nsd_run-{run}_{tail}"


def write_nifti(root, values):
    for (session, run), part in zip(RUNS, values, strict=True):
        image = nib.Nifti1Image(part.T.reshape(2, 2, 2, 6), np.eye(4))
        nib.save(image, beta_path(root, session, run, "space-T1w_desc-betas_bold.nii.gz"))
    mask = nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.eye(4))
    nib.save(mask, root / "betas/sub-01/ses-1/func/sub-01_space-T1w_desc-brain_mask.nii.gz")


def write_gifti(root, values):
    for (session, run), part in zip(RUNS, values, strict=True):
        for side, columns in (("L", slice(0, 5)), ("R", slice(5, 8))):
            arrays = [nib.gifti.GiftiDataArray(row[columns], "NIFTI_INTENT_NONE") for row in part]
            tail = f"hemi-{side}_space-fsaverage_desc-betas_bold.func.gii"
            image = nib.gifti.GiftiImage(darrays=arrays)
            nib.save(image, beta_path(root, session, run, tail))


def prepared(root, subjects):
    path = prepare_trials(root / "dataset.h5", subjects, root / "images.npy", CONFIG)
    with BrainDataset.open(path) as dataset:
        return dataset.subject("sub-01"), dataset.attributes


@pytest.mark.parametrize("write", [write_nifti, write_gifti])
def test_a_derivative_folder_is_its_arrays(bids, write):
    root, values, plain = bids
    truth, _ = prepared(root, [plain])
    write(root, values)
    found, attributes = prepared(root, read_bids(root / "betas", events=root / "raw"))
    for name in ("betas", "image_id", "repeats", "split", "noise_ceiling"):
        np.testing.assert_array_equal(getattr(found, name), getattr(truth, name))
    assert attributes["space"] == ("volume" if write is write_nifti else "fsaverage")
    table = root / "trials.csv"
    rows = zip(plain.table.session, plain.table.image, strict=True)
    lines = [f"sub-01,{session},{image}" for session, image in rows]
    table.write_text("\n".join(["subject,session,image", *lines]))
    found, _ = prepared(root, read_bids(root / "betas", table=table))
    np.testing.assert_array_equal(found.betas, truth.betas)


def test_what_does_not_fit_is_named(bids):
    root, values, _ = bids
    with pytest.raises(FileNotFoundError, match="betas: no sub-"):
        read_bids(root / "betas")
    write_nifti(root, values)
    with pytest.raises(FileNotFoundError, match=r"run-2_events\.tsv: no such file"):
        read_bids(root / "betas")
    events = root / "raw/sub-01/ses-1/func/sub-01_ses-1_task-nsd_run-2_events.tsv"
    whole = events.read_text()
    events.write_text("\n".join(whole.splitlines()[:-1]))
    with pytest.raises(ValueError, match=r"run-2_events\.tsv: 5 rows .* has 6 trials"):
        read_bids(root / "betas", events=root / "raw")
    events.write_text(whole.replace("stim_file", "picture"))
    with pytest.raises(ValueError, match=r"run-2_events\.tsv: no column stim_file"):
        read_bids(root / "betas", events=root / "raw")
    events.write_text(whole.replace("10.5", "soon"))
    with pytest.raises(ValueError, match=r"run-2_events\.tsv: column onset"):
        read_bids(root / "betas", events=root / "raw")
    events.write_text(whole)
    write_gifti(root, values)
    with pytest.raises(ValueError, match="type or space differs"):
        read_bids(root / "betas", events=root / "raw")
    for path in (root / "betas").rglob("*run-10_hemi-R*"):
        path.unlink()
    with pytest.raises(ValueError, match="lacks hemi-L or hemi-R"):
        read_bids(root / "betas", events=root / "raw", pattern="*.func.gii")
    for path in (root / "betas").rglob("*mask*"):
        path.unlink()
    with pytest.raises(ValueError, match=r"sub-01: 0 \*_desc-brain_mask"):
        read_bids(root / "betas", events=root / "raw", pattern="*.nii.gz")


def test_entities(tmp_path):
    path = tmp_path / "sub-01_run-2_desc-betas_bold.nii.gz"
    assert entities(path) == {"sub": "01", "run": "2", "desc": "betas"}
