"""NSD trees that cannot be right: one clear error that names the file, before memory is taken."""

from __future__ import annotations

import gzip
import struct

import brainit_clusters_nsd_files as nsd
import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brainit_clusters import NSDConfig, prepare_nsd
from brainit_clusters.data.nsd.spaces import SPACES

MANY = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def prepare(tree, **options):
    config = NSDConfig(image_size=16, subjects=(1,), **options)
    return prepare_nsd(tree.root, tree.root / "dataset.h5", config, progress=False)


def read_one(tree, space):
    """Check and read one session as `prepare_nsd` does: float32 [6, 5]."""
    files = SPACES[space].beta_files(tree.folder(1, space), "betas_session02")
    shape = (10, 10) if "surf" in space or space == "fsaverage" else nsd.GRID
    SPACES[space].check_betas(files, shape, 6)
    return files[0], SPACES[space].read_betas(files, shape, np.arange(5), 6)


def read_or_refused(tree, space, path):
    """What is read, or None if one line that begins with the file's name says why not."""
    message = None
    try:
        return read_one(tree, space)[1]
    except ValueError as error:
        message = str(error)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return None


@pytest.mark.parametrize(("space", "form"), [f for f in nsd.FORMS if f[1] != "contiguous"])
def test_truncated_betas_are_named(tree, space, form):
    """Cut anywhere, a file is refused; a cut of HDF5's unused tail may leave the values whole."""
    nsd.write_space(tree, space, form)
    path, whole = read_one(tree, space)
    content = path.read_bytes()
    for stop in sorted({*range(0, len(content), max(1, len(content) // 40)), len(content) - 1}):
        path.write_bytes(content[:stop])
        found = read_or_refused(tree, space, path)
        if found is not None:
            assert form == "hdf5"
            np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize(("space", "form"), [f for f in nsd.FORMS if f[1] != "contiguous"])
def test_changed_bytes_give_values_or_one_error(tree, space, form):
    nsd.write_space(tree, space, form)
    path, whole = read_one(tree, space)
    content = bytearray(path.read_bytes())
    if path.suffix == ".gz":
        content = bytearray(gzip.decompress(content))

    @MANY
    @given(st.integers(0, min(len(content), 400) - 1), st.integers(0, 255))
    def change(place, value):
        damaged = content.copy()
        damaged[place] = value
        path.write_bytes(gzip.compress(damaged) if path.suffix == ".gz" else damaged)
        found = read_or_refused(tree, space, path)
        assert found is None or found.shape == whole.shape

    change()


@pytest.mark.parametrize("dims", [(-1, 1, 1, 6), (0, 1, 1, 6), (2**31 - 1, 1, 1, 2**31 - 1)])
def test_header_bombs_are_refused_unread(tree, dims):
    path = tree.beta_file(1, "lh", 2)
    path.write_bytes(struct.pack(">7ih", 1, *dims, 3, 0, 1).ljust(284, b"\0"))
    with pytest.raises(ValueError, match=r"lh.betas_session02.mgh: "):
        prepare(tree)
    path = tree.root / "nsddata/freesurfer/fsaverage/label/lh.nsdgeneral.mgz"
    path.write_bytes(gzip.compress(struct.pack(">7ih", 1, *dims, 3, 0, 1).ljust(284, b"\0")))
    with pytest.raises(ValueError, match=r"lh.nsdgeneral.mgz: "):
        prepare(tree)


def test_a_gzip_bomb_is_refused(tree):
    """A map whose header is honest, but 64 MiB of zeros follow."""
    path = tree.root / "nsddata/freesurfer/fsaverage/label/lh.nsdgeneral.mgz"
    content = nsd.mgh_bytes(nsd.MASK.astype(np.float32)[:, None])
    path.write_bytes(gzip.compress(content + bytes(2**26)))
    with pytest.raises(ValueError, match=r"lh.nsdgeneral.mgz: .*unpacks to more"):
        prepare(tree)


def test_hdf5_that_points_elsewhere_or_claims_too_much_is_refused(tree):
    nsd.write_space(tree, "func1pt8mm", "hdf5")
    path = tree.folder(1, "func1pt8mm") / "betas_session02.hdf5"
    real = path.with_name("real.hdf5")
    path.rename(real)
    shape = (6, *nsd.GRID[::-1])

    def write(how):
        path.unlink(missing_ok=True)
        with h5py.File(path, "w") as file:
            how(file)

    def virtual(file):
        layout = h5py.VirtualLayout(shape, "i2")
        layout[:] = h5py.VirtualSource(real, "betas", shape)
        file.create_virtual_dataset("betas", layout)

    def linked(file):
        file["betas"] = h5py.ExternalLink("real.hdf5", "betas")

    def external(file):
        file.create_dataset("betas", shape, "i2", external=[(str(real), 0, h5py.h5f.UNLIMITED)])

    def loop(file):
        file["betas"] = h5py.SoftLink("/betas")

    def empty(file):
        file.create_dataset("betas", shape, "i2", chunks=(6, 1, 1, 1))

    def huge(file):
        file.create_dataset("betas", (750, 2**20, 2**20, 8), "i2", chunks=(6, 1, 1, 1))

    for how in (virtual, linked, external, loop, empty, huge):
        write(how)
        with pytest.raises(ValueError, match=r"betas_session02.hdf5: "):
            prepare(tree, space="func1pt8mm")


@pytest.mark.parametrize(
    ("space", "form", "kind"),
    [("func1pt8mm", "hdf5", "f4"), ("nativesurface", "hdf5", "u2"), ("func1mm", "nii.gz", "f4")],
)
def test_wrong_types_are_refused_not_guessed(tree, space, form, kind):
    """Floats where NSD has int16: nobody knows whether they were divided by 300 already."""
    nsd.write_space(tree, space, form)
    path = SPACES[space].beta_files(tree.folder(1, space), "betas_session02")[0]
    if form == "nii.gz":
        nsd.write_nifti(path, np.zeros((*nsd.GRID, 6), kind))
    else:
        with h5py.File(path, "a") as file:
            values = file["betas"][:]
            del file["betas"]
            file["betas"] = values.astype(kind)
    with pytest.raises(ValueError, match=rf"{path.name}: betas are .*, expected int16"):
        prepare(tree, space=space)


def test_integer_mgh_betas_are_refused(tree):
    path = tree.beta_file(1, "lh", 2)
    content = bytearray(path.read_bytes())
    content[20:24] = struct.pack(">i", 1)  # MRI_INT
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"session02.mgh: betas are >i4, expected float32"):
        prepare(tree)


def test_all_files_are_checked_before_the_first_is_read(tree, monkeypatch):
    tree.beta_file(1, "rh", 3).unlink()
    monkeypatch.setattr(type(SPACES["fsaverage"]), "read_betas", lambda *_: pytest.fail("read"))
    with pytest.raises(FileNotFoundError, match=r"rh.betas_session03.mgh: no such file"):
        prepare(tree)


@MANY
@given(st.permutations(range(18)))
def test_a_shuffled_log_is_noticed(tree, order):
    lines = (tree.responses(1)).read_text().splitlines()
    content = "\n".join([lines[0], *(lines[1 + row] for row in order)]) + "\n"
    same = [lines[1 + row] for row in order] == lines[1:]
    path = tree.responses(1)
    path.write_text(content)
    try:
        if same:
            prepare(tree)
        else:
            with pytest.raises(ValueError, match=r"responses.tsv: "):
                prepare(tree)
    finally:
        path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("73KID", "KID73", "no column 73KID"),
        ("\t1\t1\t1\t", "\tone\t1\t1\t", "SESSION holds 'one', expected a whole number"),
        ("\t1\t1\t1\t", "\t1.5\t1\t1\t", "SESSION holds '1.5', expected a whole number"),
        ("\t1\t1\t1\t", "\tinf\t1\t1\t", "SESSION holds 'inf', expected a whole number"),
    ],
)
def test_broken_logs_are_named(tree, old, new, message):
    path = tree.responses(1)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=rf"responses.tsv: {message}"):
        prepare(tree)


def test_broken_designs_are_named(tree):
    path = tree.root / "nsddata/experiments/nsd/nsd_expdesign.mat"
    whole = path.read_bytes()
    for stop in range(0, len(whole) - 8, 97):
        path.write_bytes(whole[:stop])
        with pytest.raises(ValueError, match=r"nsd_expdesign.mat: "):
            prepare(tree)
    scipy.io.savemat(path, {"masterordering": [[1.5]], "subjectim": [[1]], "sharedix": [[1]]})
    with pytest.raises(ValueError, match=r"expdesign.mat: masterordering is .* whole numbers"):
        prepare(tree)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.nan, "trial 2 has no finite beta"),
        (np.inf, "trial 2 has no finite beta"),
    ],
)
def test_a_trial_without_values_is_named(tree, values, message):
    for side in ("lh", "rh"):
        tree.betas[1, side][:, 2] = values
    tree.write_betas()
    with pytest.raises(ValueError, match=message):
        prepare(tree)


def test_infinite_denormal_and_huge_values_drop_their_voxel_alone(tree):
    tree.betas[1, "lh"][2, 4] = np.inf
    tree.betas[1, "lh"][3] = 1e-42
    tree.betas[1, "rh"][1, 4] = -np.inf
    tree.write_betas()
    from brainit_clusters import BrainDataset

    with BrainDataset.open(prepare(tree)) as dataset:
        data = dataset.subject("subj01")
    assert np.isfinite(data.betas).all()
    dropped = data.attributes["dropped_vertices"]
    assert dropped == {"nan": 2, "outside": 0, "constant": 1, "no_ncsnr": 0}
