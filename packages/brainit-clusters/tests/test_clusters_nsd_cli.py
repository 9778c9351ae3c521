"""`brainit-clusters nsd prepare` and `nsd inspect`."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from brainit_clusters import NSDConfig, prepare_nsd
from brainit_clusters.cli import app


def call(*args):
    return CliRunner().invoke(app, ["nsd", *(str(arg) for arg in args)])


def test_prepare_is_prepare_nsd(tree):
    output = tree.root / "cli.h5"
    options = "--image-size 16 --subjects 2 --sessions 1-2 --repeats trials --mask streams:ventral"
    done = call("prepare", tree.root, "-o", output, *options.split())
    assert done.exit_code == 0, done.output
    assert "subj02: 6 voxels, rows: " in done.output
    config = NSDConfig(
        image_size=16, subjects=(2,), sessions=(1, 2), repeats="trials", mask="streams:ventral"
    )
    truth = prepare_nsd(tree.root, tree.root / "truth.h5", config, progress=False)
    assert output.read_bytes() == truth.read_bytes()


def test_inspect_a_dataset_and_a_tree(tree):
    output = tree.root / "cli.h5"
    call("prepare", tree.root, "-o", output, "--image-size", 16)
    found = json.loads(call("inspect", output, "--json").output)
    assert found["subjects"]["subj01"]["rows"] == {"train": 4, "val": 0, "test": 2}
    assert found["attributes"]["mask"] == "nsdgeneral"
    found = json.loads(call("inspect", tree.root, "--json").output)
    space = found["subjects"]["subj02"]["spaces"]["fsaverage"]
    assert space["betas"] == {"betas_fithrf_GLMdenoise_RR": 3}
    assert space["atlases"] == ["floc-faces", "nsdgeneral", "streams"]
    text = call("inspect", tree.root).output
    assert "subj01: 18 trials in 3 sessions" in text
    assert "fsaverage: betas_fithrf_GLMdenoise_RR (3)" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--experiment", "x"], "expected nsd, synthetic, vision or imagery"),
        (["--experiment", "vision"], "--images: expected a table"),
        (["--sessions", "1,x"], "--sessions 1,x: expected numbers"),
        (["--space", "func2mm"], "space is 'func2mm', expected one of"),
        (["--mask", "nowhere"], "lh.nowhere.mgz: no such file"),
    ],
)
def test_mistakes_give_one_line(tree, options, message):
    done = call("prepare", tree.root, "-o", tree.root / "cli.h5", *options)
    assert done.exit_code == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
