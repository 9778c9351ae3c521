"""`brainit-clusters nsd download`: from a bucket that holds an NSD tree to one on disk."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path

import brainit_clusters_nsd_files as nsd
import brainit_clusters_s3_server as s3s
import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from brainit_clusters import NSDConfig, prepare_nsd
from brainit_clusters._command import numbers
from brainit_clusters.cli import app
from brainit_clusters.nsd_download import Bucket, Profile, select, trial_range
from brainit_clusters.nsd_download.fetch import fetch

_DESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"
_TABLE = "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
_STIMULI = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
SOME = ("--subjects", "1,2", "--accept-terms")


@pytest.fixture
def served(s3, tree):
    """A bucket that holds the tree, and things that no profile asks for."""
    put(s3, tree)
    return s3


def put(s3, tree):
    shared = tree.ids[0, :2] - 1
    rows = [f'{100 + i},{i},"(0, 0, 0, 0)",0,{i in shared}\n' for i in range(len(tree.images))]
    (tree.root / _TABLE).write_text("cocoId,nsdId,cropBox,loss,shared1000\n" + "".join(rows))
    s3.files.update({"README": b"?", "nsddata_betas/x": b"?"})
    for name in files_below(tree.root):
        s3.files[name] = (tree.root / name).read_bytes()


@pytest.fixture
def got(tmp_path):
    return tmp_path / "got"


def call(served, root, *args):
    return CliRunner().invoke(app, ["nsd", "download", str(root), "--url", served.url, *args])


def refused(*args):
    result = call(*args)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    return result.stderr


def files_below(root):
    return sorted(str(path.relative_to(root)) for path in Path(root).rglob("*") if path.is_file())


def tree_files(root):
    return [name for name in files_below(root) if ".download/" not in name]


def test_what_is_fetched_can_be_prepared(served, tree, got, tmp_path):
    done = call(served, got, *SOME)
    assert done.exit_code == 0, done.output
    assert tree_files(got) == files_below(tree.root)
    for name in files_below(tree.root):
        assert (got / name).read_bytes() == (tree.root / name).read_bytes()
    config = NSDConfig(image_size=8)
    prepared = prepare_nsd(got, tmp_path / "got.h5", config, progress=False)
    original = prepare_nsd(tree.root, tmp_path / "original.h5", config, progress=False)
    assert prepared.read_bytes() == original.read_bytes()


@pytest.mark.parametrize(("space", "form"), [pair for pair in nsd.FORMS if "contig" not in pair[1]])
def test_every_space_that_is_fetched_can_be_prepared(s3, tree, got, tmp_path, space, form):
    nsd.write_space(tree, space, form)
    put(s3, tree)
    volumes = form if form == "nii.gz" else "hdf5"
    done = call(s3, got, *SOME, "--space", space, "--volumes", volumes)
    assert done.exit_code == 0, done.output
    betas = (got / "nsddata_betas").rglob("*betas_session*")
    files = [str(path) for path in betas if ".download" not in path.parts]
    assert len(files) == 3 * 2 * (1 if space.startswith("func") else 2)
    assert all(f"/{space}/" in name and name.endswith(form) for name in files)
    config = NSDConfig(space=space, image_size=8)
    prepared = prepare_nsd(got, tmp_path / "got.h5", config, progress=False)
    original = prepare_nsd(tree.root, tmp_path / "original.h5", config, progress=False)
    assert prepared.read_bytes() == original.read_bytes()


def test_the_same_command_again_fetches_nothing(served, got):
    call(served, got, *SOME)
    n_files = len(served.fetched)
    served.requests.clear()
    done = call(served, got, *SOME)
    assert f"{n_files} files verified" in done.output
    assert served.fetched == []


def test_no_terms_no_request(served, got):
    for args in ((), ("--trials", "1-2"), ("--trials", "1-2", "--list")):
        said = refused(served, got, "--subjects", "1", *args)
        assert "slite.page" in said
        assert "--accept-terms" in said
    assert served.requests == []
    assert not (got).exists()


def test_the_list_says_what_is_there(served, tree, got):
    call(served, got, *SOME)
    paths = [tree.beta_file(1, "lh", n).relative_to(tree.root) for n in (1, 2, 3)]
    (got / paths[0]).write_bytes(b"mine")
    aside = (got / paths[0]).parent / ".download"
    (aside / f"{paths[1].name}.json").unlink()
    content = (got / paths[2]).read_bytes()
    (aside / f"{paths[2].name}.part").write_bytes(content[: len(content) // 4])
    (got / paths[2]).unlink()
    (got / _STIMULI).unlink()
    served.requests.clear()
    done = call(served, got, "--subjects", "1,2", "--list")
    said = {line.split()[-1]: line for line in done.output.splitlines()}
    assert done.exit_code == 0
    assert served.fetched == []
    for path, state in zip(paths, ("differs", "not checked", "25%"), strict=True):
        assert said[str(path)].lstrip().startswith(state)
    assert said[_STIMULI].lstrip().startswith("-  ")
    assert said[_DESIGN].lstrip().startswith("verified")
    assert len(said) == len(files_below(tree.root)) + 1
    assert done.output.splitlines()[-1].startswith(f"{len(said) - 1} files, ")


def test_recheck_reads_files_again(served, tree, got):
    call(served, got, *SOME)
    path = got / tree.beta_file(1, "lh", 1).relative_to(tree.root)
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1  # as a failing disk does it
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert call(served, got, *SOME).exit_code == 0
    assert f"{path}: is not what the bucket has now" in refused(served, got, *SOME, "--recheck")


def test_sessions_and_subjects_are_chosen(served, tree, got):
    chosen = ("--subjects", "2", "--sessions", "2-40", "--accept-terms")
    assert call(served, got, *chosen).exit_code == 0
    names = tree_files(got)
    assert sum("betas_session02" in name for name in names) == 2
    assert sum("betas_session03" in name for name in names) == 2
    assert not any("betas_session01" in name or "subj01" in name for name in names)


def test_what_the_bucket_lacks_is_named(served, tree, got):
    for key in (_DESIGN, _TABLE, _STIMULI, "nsddata/ppdata/subj01/behav/responses.tsv"):
        content = served.files.pop(key)
        assert f"{key}: not in the bucket" in refused(served, got, *SOME)
        served.files[key] = content
    for name in ("rh.betas_session02.mgh", "lh.ncsnr.mgh"):
        key = str(tree.beta_file(1, "lh", 1).with_name(name).relative_to(tree.root))
        content = served.files.pop(key)
        assert "not all in the bucket" in refused(served, got, "--subjects", "1", *SOME[2:])
        served.files[key] = content
    assert "not all" in refused(served, got, *SOME, "--sessions", "4")
    assert served.fetched == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--subjects", "0"), "--subjects"),
        (("--subjects", "9"), "subjects"),
        (("--subjects", "a"), "--subjects a"),
        (("--sessions", "3-1"), "--sessions"),
        (("--space", "mni"), "space"),
        (("--betas", "../betas"), "betas"),
        (("--volumes", "nii"), "volumes"),
        (("--trials", "1,3"), "one range"),
        (("--trials", "1-6"), "has trials 1-5"),
        (("--trials", "1-2", "--space", "func1mm"), "only fsaverage"),
    ],
)
def test_a_mistake_is_one_line(served, got, args, said):
    assert said in refused(served, got, "--subjects", "1", "--accept-terms", *args)


def test_numbers():
    assert numbers("5-7, 1,2-3,3", "--n") == (1, 2, 3, 5, 6, 7)


def test_each_space_asks_for_its_own_files(s3):
    """Against the paths of NSD's data manual."""
    betas = "nsddata_betas/ppdata/subj02/{}/betas_fithrf/"
    native, volume = betas.format("nativesurface"), betas.format("func1mm")
    labels = "nsddata/freesurfer/subj02/label/"
    wanted = {
        "nativesurface": [
            *(f"{native}{side}.betas_session01.hdf5" for side in ("lh", "rh")),
            *(f"{native}{side}.ncsnr.mgh" for side in ("lh", "rh")),
            *(f"{labels}{side}.nsdgeneral.mgz" for side in ("lh", "rh")),
            f"{labels}streams.mgz.ctab",
        ],
        "hdf5": [
            *(f"{volume}betas_session01.hdf5", f"{volume}ncsnr.nii.gz"),
            *("nsddata/ppdata/subj02/func1mm/roi/nsdgeneral.nii.gz", f"{labels}streams.mgz.ctab"),
        ],
        "nii.gz": [
            *(f"{volume}betas_session01.nii.gz", f"{volume}ncsnr.nii.gz"),
            *("nsddata/ppdata/subj02/func1mm/roi/nsdgeneral.nii.gz", f"{labels}streams.mgz.ctab"),
        ],
    }
    always = [_DESIGN, _TABLE, "nsddata/ppdata/subj02/behav/responses.tsv"]
    always += [_STIMULI]
    unwanted = [f"{labels}lh.cortex.label", f"{volume}meanbeta.nii.gz", f"{volume}valid.nii.gz"]
    unwanted += [f"{native}lh.betas_session01.mgh", "nsddata/ppdata/subj02/func1pt8mm/roi/x.nii.gz"]
    s3.files.update(dict.fromkeys([*always, *unwanted, *chain(*wanted.values())], b"?"))
    for name, expected in wanted.items():
        space = "nativesurface" if name == "nativesurface" else "func1mm"
        volumes = "hdf5" if name == "nativesurface" else name
        profile = Profile(subjects=(2,), space=space, betas="betas_fithrf", volumes=volumes)
        keys = [file.key for file in select(Bucket(s3.url), profile)]
        assert sorted(keys) == sorted(always + expected)
    del s3.files[f"{labels}streams.mgz.ctab"]  # volumes do without names of labels
    assert len(select(Bucket(s3.url), profile)) == len(keys) - 1
    del s3.files["nsddata/ppdata/subj02/func1mm/roi/nsdgeneral.nii.gz"]
    with pytest.raises(FileNotFoundError, match="func1mm/roi/"):
        select(Bucket(s3.url), profile)


# Some trials of a session.


def test_trials_are_a_slice_of_the_session(served, tree, got):
    args = ("--subjects", "1", "--trials", "2-4", "--accept-terms")
    done = call(served, got, *args)
    assert done.exit_code == 0, done.output
    assert "6 files size only" in done.output
    assert len(tree_files(got)) == 6
    for session in (1, 2, 3):
        path = got / tree.beta_file(1, "rh", session).relative_to(tree.root)
        image = nib.load(path.with_name(f"rh.session{session:02d}_trials002-004.mgh"))
        expected = tree.betas[1, "rh"][:, session == nsd.SESSIONS][:, 1:4]
        assert image.shape == (10, 1, 1, 3)
        np.testing.assert_array_equal(np.asarray(image.dataobj)[:, 0, 0], expected)
    bytes_ranges = [headers["Range"] for _, key, headers in served.requests if "lh.betas" in key]
    assert "bytes=324-443" in bytes_ranges  # 284 + 40 to 284 + 4 * 40: ten floats a trial
    served.requests.clear()
    assert call(served, got, *args).exit_code == 0
    assert len(served.fetched) == 6  # headers alone


def test_trials_are_never_read_as_a_session(served, tree, got):
    call(served, got, *SOME)
    for session in (1, 2, 3):
        (got / tree.beta_file(1, "lh", session).relative_to(tree.root)).unlink()
    call(served, got, "--subjects", "1", "--trials", "1-5", "--accept-terms")
    with pytest.raises(FileNotFoundError, match="session01"):
        prepare_nsd(got, got / "x.h5", NSDConfig(image_size=8), progress=False)


def session(s3, content):
    s3.files["lh.betas_session01.mgh"] = content
    bucket = Bucket(s3.url, timeout=20, pause=0.001)
    return bucket, bucket.files("lh.")[0]


VALUES = np.random.default_rng(0).normal(size=(1000, 20)).astype(np.float32)


@pytest.mark.parametrize("cut", [0, 1, 283, 284, 4000, 11_999])
def test_a_broken_range_goes_on(s3, tmp_path, cut):
    bucket, file = session(s3, nsd.mgh_bytes(VALUES) + b"footer of scan parameters")
    target = trial_range(bucket, file, tmp_path, 18, 20)
    s3.faults.append(s3s.cut(cut))
    assert fetch(target, bucket, lambda n_bytes: None) == "size"
    content = target.path.read_bytes()
    assert content == nsd.mgh_bytes(VALUES[:, 17:20])


def test_all_trials_are_the_session(s3, tmp_path):
    bucket, file = session(s3, nsd.mgh_bytes(VALUES))
    target = trial_range(bucket, file, tmp_path, 1, 20)
    fetch(target, bucket, lambda n_bytes: None)
    assert target.path.read_bytes() == nsd.mgh_bytes(VALUES)


GOOD = nsd.mgh_bytes(VALUES)
HEADERS = {
    "too short": GOOD[:283],
    "no header": b"\0" * len(GOOD),
    "little-endian": GOOD[:4][::-1] + GOOD[4:],
    "int16": GOOD[:20] + (4).to_bytes(4, "big") + GOOD[24:],
    "a volume": GOOD[:8] + (2).to_bytes(4, "big") + GOOD[12:],
    "below zero": GOOD[:4] + b"\xff" * 4 + GOOD[8:],
    "one byte short": GOOD[:-1],
    "more trials than bytes": GOOD[:16] + (2**31 - 1).to_bytes(4, "big") + GOOD[20:],
    "HDF5": b"\x89HDF\r\n\x1a\n" + GOOD[8:],
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_cannot_be_right(s3, tmp_path, name):
    bucket, file = session(s3, HEADERS[name])
    with pytest.raises(ValueError, match=r"lh\.betas_session01\.mgh: "):
        trial_range(bucket, file, tmp_path, 1, 2)
