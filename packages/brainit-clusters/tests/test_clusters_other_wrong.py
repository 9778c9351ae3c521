"""Own data that cannot be right: one clear line that names file and field."""

from __future__ import annotations

from dataclasses import replace

import brainit_clusters_own_data as own
import h5py
import nibabel as nib
import numpy as np
import pytest

from brainit_clusters.data.other import (
    TrialsConfig,
    TrialTable,
    read_arrays,
    read_cifti,
    read_gifti,
    read_glmsingle,
    read_nifti,
    read_trial_table,
)


def test_a_shuffled_table_is_put_in_order_or_refused(data):
    order = np.random.default_rng(1).permutation(20)
    columns = data.columns | {"trial": np.arange(20)}
    shuffled = {name: values[order] for name, values in columns.items()}
    table = read_trial_table(own.write_table(data.folder / "shuffled.csv", shuffled))
    for name in ("session", "run", "image"):
        np.testing.assert_array_equal(getattr(table, name), getattr(data.table, name))
    del shuffled["trial"]
    path = own.write_table(data.folder / "shuffled.csv", shuffled)
    with pytest.raises(ValueError, match=r"shuffled\.csv: column session: .* comes back"):
        read_trial_table(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": None}, "no column image"),
        ({"image": [""] * 20}, "trial 0: column image is empty"),
        ({"trial": [0] * 20}, "column trial must hold each of 0 to 19 once"),
        ({"trial": ["x"] * 20}, "column trial holds no whole number"),
        ({"split": ["dev"] * 20}, "column split holds 'dev'"),
        ({"subject": ["a", "b"] * 10}, "column subject names"),
        ({"session": [1, 2] * 10}, "column session: '1' comes back at trial 2"),
    ],
)
def test_wrong_tables_are_named(data, change, message):
    columns = {n: v for n, v in (data.columns | change).items() if v is not None}
    path = own.write_table(data.folder / "wrong.tsv", columns)
    with pytest.raises(ValueError, match=r"wrong\.tsv: ") as caught:
        read_trial_table(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_image_in_two_splits_is_refused(data):
    split = np.full(20, "train")
    split[13] = "test"
    data.table = replace(data.table, split=split)
    with pytest.raises(ValueError, match=r"column split: image \d is test, elsewhere train"):
        own.prepared(data, own.as_npy(data), TrialsConfig(image_size=8))
    with pytest.raises(ValueError, match="not both"):
        own.prepared(data, own.as_npy(data))


def test_trials_that_do_not_fit_are_named(data):
    np.save(data.folder / "betas.npy", data.betas[:-1])
    with pytest.raises(ValueError, match=r"betas\.npy: 19 trials, .*trials\.tsv has 20"):
        own.as_npy(data)
    data.betas[4] = np.nan
    np.save(data.folder / "betas.npy", data.betas)
    with pytest.raises(ValueError, match=r"session 1 of .*trials\.tsv: trial 4 has no finite"):
        own.prepared(data, own.as_npy(data))
    data.table = replace(data.table, image=np.full(20, "7"))
    with pytest.raises(ValueError, match=r"images\.npy: 7 images, .* says '7'"):
        own.prepared(data, own.as_npy(data))
    assert not (data.folder / "dataset.h5").exists()


@pytest.mark.parametrize("kind", ["U3", "c16", "?", "O"])
def test_what_are_no_numbers_is_refused(data, kind):
    np.save(data.folder / "betas.npy", np.zeros((20, 3)).astype(kind), allow_pickle=True)
    with pytest.raises(ValueError, match=r"betas\.npy: "):
        own.as_npy(data)


def test_whole_numbers_are_scale_free(data):
    """NSD-like int16 files hold 300 times the value; z-scores do not care."""
    data.betas = np.rint(data.betas * 300) / 300
    plain, *_ = own.prepared(data, own.as_hdf5(data))
    np.save(data.folder / "betas.npy", np.rint(data.betas * 300).astype(np.int16))
    scaled, *_ = own.prepared(data, own.as_npy(data))
    np.testing.assert_allclose(scaled.betas, plain.betas, atol=own.HALF)


def test_data_in_other_files_are_refused(data):
    with h5py.File(data.folder / "real.h5", "w") as file:
        file["x"] = data.betas
    layout = h5py.VirtualLayout((20, own.N_VOXELS), "f4")
    layout[:] = h5py.VirtualSource(data.folder / "real.h5", "x", (20, own.N_VOXELS))
    with h5py.File(data.folder / "links.h5", "w") as file:
        file["link"] = h5py.ExternalLink("real.h5", "x")
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset(
            "external", (20, own.N_VOXELS), "f4", external=[("betas.npy", 0, h5py.h5f.UNLIMITED)]
        )
    for name in ("link", "virtual", "external"):
        with pytest.raises(ValueError, match=rf"links\.h5: dataset {name} lies in another file"):
            read_arrays("sub-01", f"{data.folder}/links.h5:{name}", data.table)
    own.as_gifti(data)
    path = data.folder / "lh.func.gii"
    text = path.read_text().replace("GZipBase64Binary", "ExternalFileBinary")
    path.write_text(text)
    with pytest.raises(ValueError, match=r"lh\.func\.gii: data lie in another file"):
        read_gifti("sub-01", path, path, data.table)


def test_wrong_grids_and_kinds_are_named(data):
    mask = data.folder / "mask.nii.gz"
    path = data.folder / "wrong.nii"
    nib.save(nib.Nifti1Image(own.volume(data)[:2], data.affine), path)
    with pytest.raises(ValueError, match=r"wrong\.nii: shape \(2, 4, 2, 20\), expected \(3, 4, 2"):
        read_nifti("sub-01", path, mask, data.table)
    nib.save(nib.Nifti1Image(own.volume(data), np.eye(4)), path)
    with pytest.raises(ValueError, match=r"wrong\.nii: affine differs"):
        read_nifti("sub-01", path, mask, data.table)
    with pytest.raises(ValueError, match=r"wrong\.nii: is a Nifti1Image, expected CIFTI betas"):
        read_cifti("sub-01", path, data.table)
    nib.save(nib.Nifti1Image(np.zeros(own.GRID, np.uint8), data.affine), mask)
    with pytest.raises(ValueError, match=r"mask\.nii\.gz: mask holds no voxel"):
        read_nifti("sub-01", path, mask, data.table)
    np.save(data.folder / "TYPED.npy", {"betasmd": 1}, allow_pickle=True)
    with pytest.raises(ValueError, match=r"TYPED\.npy: .*pickle.*expected the \.hdf5"):
        read_glmsingle("sub-01", data.folder / "TYPED.npy", data.table)
    with pytest.raises(FileNotFoundError, match=r"none\.npy: no such file"):
        read_arrays("sub-01", data.folder / "none.npy", data.table)


FILES = {
    "betas.npy": own.as_npy,
    "betas.npz": own.as_npz,
    "betas.h5": own.as_hdf5,
    "betas.nii": lambda data: own.as_nifti(data, ".nii"),
    "betas.nii.gz": own.as_nifti,
    "lh.func.gii": own.as_gifti,
    "betas.dscalar.nii": own.as_cifti,
    "TYPED_FITHRF_GLMDENOISE_RR.hdf5": own.as_glmsingle,
}
REREAD = {
    "betas.npy": lambda d, p: read_arrays("sub-01", p, d.table),
    "betas.npz": lambda d, p: read_arrays("sub-01", f"{p}:betas", d.table),
    "betas.h5": lambda d, p: read_arrays("sub-01", f"{p}:/a/betas", d.table),
    "betas.nii": lambda d, p: read_nifti("sub-01", p, d.folder / "mask.nii.gz", d.table),
    "betas.nii.gz": lambda d, p: read_nifti("sub-01", p, d.folder / "mask.nii.gz", d.table),
    "lh.func.gii": lambda d, p: read_gifti("sub-01", p, d.folder / "rh.func.gii", d.table),
    "betas.dscalar.nii": lambda d, p: read_cifti("sub-01", p, d.table),
    "TYPED_FITHRF_GLMDENOISE_RR.hdf5": lambda d, p: read_glmsingle(
        "sub-01", p, d.table, mask=d.folder / "mask.nii.gz"
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # nibabel's, about headers that we changed
@pytest.mark.parametrize("name", FILES)
def test_cut_and_changed_files_are_read_or_named(data, name):
    """Cuts must be noticed; a changed byte gives values or one ValueError that names the file."""
    FILES[name](data)
    path = data.folder / name
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [whole[:length] for length in np.linspace(0, len(whole) - 9, 25).astype(int)]
    for _ in range(60):
        changed = bytearray(whole)
        changed[rng.integers(min(len(whole), 2000))] = rng.integers(256)
        damaged.append(bytes(changed))
    refused = []
    for content in damaged:
        path.write_bytes(content)
        try:
            REREAD[name](data, path).betas.read(np.arange(20))
        except ValueError as error:
            refused.append(str(error))
        else:
            assert len(content) == len(whole), f"a cut to {len(content)} bytes was not noticed"
    assert all(name in line and "\n" not in line for line in refused)
    assert len(refused) >= 25


@pytest.mark.parametrize(
    "wrong",
    [{"normalisation": "x"}, {"test_fraction": 1}, {"validation_fraction": -1}, {"image_size": 0}],
)
def test_unknown_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrialsConfig(**wrong)


def test_claims_and_pickles_are_refused(data):
    with h5py.File(data.folder / "huge.h5", "w") as file:
        file.create_dataset("x", (20, 2**41), "f4", chunks=(1, 1024))
    with pytest.raises(ValueError, match=r"huge\.h5: dataset x .* holds no values"):
        read_arrays("sub-01", f"{data.folder}/huge.h5:x", data.table)
    np.savez(data.folder / "pickled.npz", x=np.array([{}, {}]))
    with pytest.raises(ValueError, match=r"pickled\.npz: .*allow_pickle"):
        read_arrays("sub-01", data.folder / "pickled.npz", data.table)


def test_tables_made_by_hand_hold_strings(data):
    with pytest.raises(ValueError, match="image is int64, expected strings"):
        TrialTable(data.table.session, data.shown)
