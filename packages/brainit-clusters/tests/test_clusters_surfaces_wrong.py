"""Damaged and hostile mesh and atlas files: values, or one line that names the file."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from nibabel.freesurfer.io import write_annot, write_geometry

from brainit_clusters import SubjectData
from brainit_clusters.atlas_file import read_atlas
from brainit_clusters.meshes import load_vertices

N = 12
VERTICES = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)
TRIANGLES = np.arange(N, dtype=np.int32).reshape(-1, 3)
LABELS = np.arange(N, dtype=np.int32) % 4


def geometry(path):
    write_geometry(path, VERTICES, TRIANGLES)


def surface_gifti(path):
    parts = {"POINTSET": VERTICES, "TRIANGLE": TRIANGLES}
    arrays = [nib.gifti.GiftiDataArray(v, f"NIFTI_INTENT_{name}") for name, v in parts.items()]
    nib.save(nib.GiftiImage(darrays=arrays), path)


def annotation(path):
    table = np.column_stack([np.arange(4)] * 3 + [np.zeros(4, int)])
    write_annot(path, LABELS, table, list("abcd"), fill_ctab=True)


def label_gifti(path):
    array = nib.gifti.GiftiDataArray(LABELS, "NIFTI_INTENT_LABEL")
    nib.save(nib.GiftiImage(darrays=[array]), path)


def mgh(path):
    nib.save(nib.MGHImage(LABELS[:, None, None], np.eye(4)), path)


FILES = {
    "lh.white": geometry,
    "lh.white.surf.gii": surface_gifti,
    "lh.a.annot": annotation,
    "lh.a.label.gii": label_gifti,
    "lh.a.mgz": mgh,
    "lh.a.npy": lambda path: np.save(path, LABELS),
}


@pytest.fixture
def subject():
    return SubjectData(
        name="subj01",
        betas=np.zeros((1, N), np.float32),
        image_id=np.arange(1),
        repeats=np.ones(1, np.int16),
        split=np.array(["test"]),
        vertex=np.arange(N, dtype=np.int32),
        hemisphere=np.zeros(N, np.uint8),
        noise_ceiling=np.full(N, 0.5, np.float32),
    )


def read(path, subject):
    if ".white" in path.name:
        return load_vertices(path)
    return read_atlas(str(path).replace("lh.", "?h."), subject)


@pytest.mark.parametrize("name", FILES)
def test_cut_and_changed_files_are_read_or_named(tmp_path, subject, name):
    path = tmp_path / name
    FILES[name](path.with_name(name.replace("lh.", "rh.")))
    FILES[name](path)
    whole, truth = path.read_bytes(), read(path, subject)
    np.testing.assert_array_equal(truth, VERTICES if ".white" in name else LABELS)
    rng = np.random.default_rng(0)
    damaged = [whole[:length] for length in np.linspace(0, len(whole) - 9, 25).astype(int)]
    for _ in range(60):
        changed = bytearray(whole)
        changed[rng.integers(min(len(whole), 400))] = rng.integers(256)
        damaged.append(bytes(changed))
    refused = []
    for content in damaged:
        path.write_bytes(content)
        try:
            read(path, subject)
        except ValueError as error:
            refused.append(str(error))
    assert all("\n" not in line for line in refused)
    assert all(name in line or "not on a mesh of" in line for line in refused)
    assert len(refused) >= 10


@pytest.mark.parametrize("name", ["lh.white.surf.gii", "lh.a.label.gii"])
def test_data_in_other_files_are_refused(tmp_path, subject, name):
    path = tmp_path / name
    FILES[name](path)
    path.write_text(path.read_text().replace("GZipBase64Binary", "ExternalFileBinary"))
    with pytest.raises(ValueError, match="data lie in another file"):
        read(path, subject)
